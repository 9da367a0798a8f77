'use strict';
// Everything works without this: it copies, asks before what cannot be undone, and keeps a
// form from being sent twice.
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
  for (const form of document.forms) delete form.dataset.sent;
});
if (document.querySelector('#alert p')) document.getElementById('main').focus();
