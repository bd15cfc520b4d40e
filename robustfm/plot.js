const G = globalThis
function plotly(model) {
  if (!G._robustfm || (!G._robustfm.ready && Date.now() - G._robustfm.asked > 9000)) {
    const it = G._robustfm = {asked: Date.now(), gl: []}
    it.plotly = new Promise((ok, no) => {
      const on = async (msg, buffers) => {
        if (!msg.plotly) return
        model.off('msg:custom', on)
        const old = G.Plotly, url = URL.createObjectURL(new Blob([buffers[0]], {type: 'text/javascript'}))
        try { await import(url); it.ready = true; ok(G.Plotly); G.Plotly = old } catch (e) { no(e) } finally { URL.revokeObjectURL(url) }
      }
      model.on('msg:custom', on); model.send({need: 'plotly'})
    })
  }
  return G._robustfm.plotly
}
export default { async render({model, el}) {
  const div = document.createElement('div'); el.append(div); el.style.overflowX = 'auto'; div.setAttribute('role', 'img')
  let busy = false, again = false, wired = false, edits = false, asleep = false, count = 0
  const P = await plotly(model), gl = G._robustfm.gl
  const say = o => { model.set('event', {...o, n: ++count}); model.save_changes() }
  function wire() {
    div.on('plotly_click', e => { const p = e.points[0]; say({type: 'click', trace: p.curveNumber, point: p.customdata ?? p.pointNumber, x: p.x, y: p.y}) })
    div.on('plotly_selected', e => busy || say({type: 'select', points: (e?.points ?? []).filter(p => p.customdata !== undefined).slice(0, 2000).map(p => p.customdata)}))
    div.on('plotly_deselect', () => busy || say({type: 'select', points: []}))
    div.on('plotly_relayout', e => { for (const k in e) { const m = k.match(/^shapes\[(\d+)\]\.x0$/), s = m && div.layout.shapes[m[1]]
      if (s) say({type: 'drag', shape: +m[1], x: (s.x0 + s.x1)/2, y: (s.y0 + s.y1)/2}) } })
    return true
  }
  async function draw() {
    if (busy) { again = true; return }
    busy = true
    try { do {
      again = false
      const f = JSON.parse(model.get('figure'))
      if (!f.data.length && !f.layout.title) continue
      if (asleep) { div.replaceChildren(); asleep = false }
      div.setAttribute('aria-label', f.layout.title?.text?.replace(/<[^>]*>/g, '') ?? 'figure')
      const free = (f.layout.shapes ?? []).some(s => s.editable)             // a new config makes plotly forget its listeners
      if (free!==edits) { edits = free; wired = false }
      await P.react(div, f.data, f.layout, {...f.config, edits: {shapePosition: free}})
      wired = wired || wire()
      if (f.data.some(t => /gl$/.test(t.type)) && !gl.includes(sleep)) { gl.push(sleep); if (gl.length > 2) await gl.shift()() }
      div.dataset.drawn = +(div.dataset.drawn ?? 0) + 1
    } while (again) } finally { busy = false }
  }
  async function sleep() {
    const img = document.createElement('img'); img.alt = div.getAttribute('aria-label'); img.src = await P.toImage(div, {format: 'png'})
    P.purge(div); wired = false; asleep = true; div.replaceChildren(img); img.onpointerenter = draw
  }
  model.on('change:figure', draw); await draw()
  return () => { const i = gl.indexOf(sleep); if (i >= 0) gl.splice(i, 1); P.purge(div) }
}}
