'use strict';
// Everything works without this, but passkeys: it copies, asks before what cannot be undone, and
// keeps a form from being sent twice.
for (const button of document.querySelectorAll('[data-copy]')) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener('click', async () => {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = 'Copied';
    } catch {
      button.textContent = 'Not copied';
    }
    const said = document.getElementById('said');
    if (said) said.textContent = button.textContent;
    setTimeout(() => { button.textContent = label }, 2000);
  });
}
// A form with a passkey shows where there can be one, and is sent with its answer.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
async function passkey(get, make) {
  const publicKey = JSON.parse(get || make);
  publicKey.challenge = bytes(publicKey.challenge);
  if (get) {
    const made = await navigator.credentials.get({ publicKey });
    const { clientDataJSON, authenticatorData, signature, userHandle } = made.response;
    return { made, response: { clientDataJSON: text(clientDataJSON), authenticatorData: text(authenticatorData), signature: text(signature), userHandle: text(userHandle || []) } };
  }
  publicKey.user.id = bytes(publicKey.user.id);
  for (const has of publicKey.excludeCredentials) has.id = bytes(has.id);
  const made = await navigator.credentials.create({ publicKey });
  const { clientDataJSON, attestationObject } = made.response;
  return { made, response: { clientDataJSON: text(clientDataJSON), attestationObject: text(attestationObject) } };
}
for (const form of document.querySelectorAll('form[data-get], form[data-make]')) {
  if (!window.PublicKeyCredential || !navigator.credentials) break;
  form.hidden = false;
  let asking = false;
  form.addEventListener('submit', async (event) => {
    const answer = form.querySelector('[data-answer]');
    if (answer.value) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (asking) return;
    asking = true;
    const failed = form.querySelector('[data-failed]');
    failed.hidden = true;
    try {
      const { made, response } = await passkey(form.dataset.get, form.dataset.make);
      answer.value = JSON.stringify({ id: made.id, rawId: text(made.rawId), type: made.type, response, clientExtensionResults: {} });
      // What another form asks as well is asked there alone.
      for (const field of form.querySelectorAll('[data-as]')) field.disabled = !document.getElementById(field.dataset.as).checked;
      form.requestSubmit();
    } catch (error) {
      failed.textContent = form.dataset[error.name === 'InvalidStateError' ? 'has' : 'none'];
      failed.hidden = false;
    }
    asking = false;
  });
}
for (const form of document.forms) {
  form.addEventListener('submit', (event) => {
    const ask = event.submitter?.dataset.confirm;
    if (ask && !confirm(ask)) {
      event.preventDefault();
      return;
    }
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    if (!form.hasAttribute('data-again')) form.dataset.sent = 'yes';
  });
}
// A page that comes back out of the browser's memory can be sent again.
addEventListener('pageshow', () => {
  for (const form of document.forms) {
    delete form.dataset.sent;
    for (const answer of form.querySelectorAll('[data-answer]')) answer.value = '';
  }
});
if (document.querySelector('#alert p')) document.getElementById('main').focus();
