// What ipywidgets leaves out: a name of each control for screen readers, and keys that JupyterLab must not take from it
const controls = ':is(select, button, input, textarea, [contenteditable], .noUi-handle)'

function name(control, otherwise) {
  const own = control.closest('.widget-inline-hbox, .widget-inline-vbox')?.querySelector('.widget-label')
  const icon = control.querySelector('i')?.className ?? ''                  // the buttons of a player have icons only
  const played = /repeat|retweet/.test(icon) ? 'repeat' : /stop/.test(icon) ? 'stop playing' : /play|pause/.test(icon) ? 'play' : ''
  return own?.textContent.trim() || control.title || control.textContent.trim() || played || otherwise
}

function mend(box, otherwise) {
  for (const control of box.querySelectorAll(controls)) {
    control.dataset.lmSuppressShortcuts = 'true'
    if (!control.labels?.length && !control.ariaLabel) control.ariaLabel = name(control, otherwise)
  }
}

export default { render({model, el}) {
  let gone = false
  const watch = new MutationObserver(() => mend(el.closest('.robustfm-live') ?? el, model.get('name')))   // el leaves its box when this is closed
  function begin() {                                        // the box is in the page a moment later
    const box = el.closest('.robustfm-live')
    if (!box) return gone || requestAnimationFrame(begin)
    mend(box, model.get('name'))
    watch.observe(box, {childList: true, subtree: true})
  }
  begin()
  return () => { gone = true; watch.disconnect() }
}}
