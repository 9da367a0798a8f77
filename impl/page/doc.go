// Package page is what all pages of the server stand on that people sign in to with a
// browser: the pages for the owners of accounts, and the console for the operator. Pages are
// drawn here from templates, with one style and one small script inside each; nothing is
// built, and nothing is loaded from anywhere.
//
// Pages and XRPC share an origin, and what strangers upload is served from it. So these
// rules hold for each [Site], and nothing that is put on one can leave them out:
//
//   - It answers only for the hosts of its origins, and everybody else learns that there is
//     nothing: handles are hosts of the same site to a browser, and a name of a stranger can
//     be made to lead here. Nor does a header that a page can have sent choose the host.
//   - It takes GET, HEAD and POST. What changes anything is a POST, and is taken only from
//     its own pages: Sec-Fetch-Site has to say same-origin, an Origin has to be the site's, and
//     there is none only beside the former. The form has to bring a token that belongs to the
//     cookie of the browser, also to sign in and to sign out.
//   - The cookie is __Host-, HttpOnly and Secure, and random; what is stored of it is a keyed
//     hash. Whoever signs in, or gives the password again, gets another one. Sessions end when
//     nobody uses them for a while, at the latest after their life, and with what they are bound
//     to: see [Sessions]. Browsers take such cookies over plain HTTP from this machine too,
//     Chromium and Firefox at least.
//   - No page takes an Authorization header, allows another origin to read it, or is shown in a
//     frame. Scripts and styles run by their checksums alone, never because they come from this
//     origin. Nothing is kept in caches.
//   - Pages change and read nothing by themselves: they call the methods that clients call,
//     in this process, see [Inside], for the address of the browser. Who may call, how often,
//     and what it costs whom is decided there, once.
//
// Referrer-Policy is same-origin and not no-referrer, which would have browsers send "null" as
// the Origin of forms.
package page
