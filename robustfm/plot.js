// A plotly figure in the page: as wide as its place allows, in the page's theme. What a reader does in it comes back as `event`.
const page = globalThis
const buttons = [['toImage', 'zoom2d', 'pan2d', 'resetScale2d']]          // an allow-list: plotly's own list holds an upload
const night = {'#222222': '#DDDDDD', '#444444': '#BBBBBB', '#555555': '#BBBBBB', '#000000': '#FFFFFF', '#DDDDDD': '#3C3C3C', '#B03A00': '#FF9C70'}

const isDark = () => document.body.dataset.jpThemeLight === 'false' || document.body.classList.contains('vscode-dark')

// plotly.js comes over the kernel's connection, once a page; who asks later waits for the same answer
function library(model) {
  if (page._robustfm?.ready || Date.now() - (page._robustfm?.asked ?? -9000) < 9000) return page._robustfm.plotly
  const it = page._robustfm = {asked: Date.now(), awake: []}
  it.plotly = new Promise((resolve, reject) => {
    async function answer(message, buffers) {
      if (!message.plotly) return
      model.off('msg:custom', answer)
      const other = page.Plotly, url = URL.createObjectURL(new Blob([buffers[0]], {type: 'text/javascript'}))
      try { await import(url); it.ready = true; resolve(page.Plotly) }
      catch (error) { reject(error) }
      finally { page.Plotly = other; URL.revokeObjectURL(url) }
    }
    model.on('msg:custom', answer)
    model.send({need: 'plotly'})
  })
  return it.plotly
}

function plain(text) {                                             // a title without its markup, as text and never as HTML
  return new DOMParser().parseFromString((text ?? '').replace(/<br ?\/?>/g, ' '), 'text/html').body.textContent
}

// A figure of ours says which colours a dark page wants; others get those of text and grid
function read(json) {
  const figure = JSON.parse(json)
  if (!isDark()) return figure
  const map = figure.dark ?? night, {dark, ...rest} = figure
  const text = JSON.stringify(rest).replace(/#[0-9A-Fa-f]{6}/g, c => map[c.toUpperCase()] ?? c)
  return JSON.parse(figure.dark ? text : text.replace(/"white"/g, '"#161616"').replace(/rgba\(255,255,255/g, 'rgba(22,22,22'))
}

// No wider than its place: below 640 pixels a figure of ours has a layout of its own, others are moved sideways.
// The title stands in HTML, where it wraps; a low screen gets lower figures
function fitted(figure, el) {
  const room = el.clientWidth || 900, ours = !!figure.narrow, layout = ours && room < 640 ? figure.narrow : figure.layout
  const house = layout.template?.layout ?? {}, margin = {...house.margin, ...layout.margin}
  const height = (layout.height ?? house.height ?? 450) - (ours ? 0 : 34), most = Math.max(.8*height, innerHeight - 250)
  if (!ours) margin.t = Math.max((margin.t ?? 100) - 34, 10)
  const width = ours ? Math.max(room, layout.width ?? 0) : Math.max(Math.min(layout.width ?? house.width ?? 900, room), 480)
  return {...layout, title: undefined, margin, width, height: room < 640 ? height : Math.min(height, most)}
}

export default { async render({model, el}) {
  const title = document.createElement('p'), div = document.createElement('div')
  title.className = 'robustfm-title'
  div.setAttribute('role', 'img')
  el.style.overflowX = 'auto'
  el.append(title, div)

  const P = await library(model), awake = page._robustfm.awake
  let busy = false, again = false, wired = false, edits = false, asleep = false, said = 0, width = 0

  function say(event) { model.set('event', {...event, n: ++said}); model.save_changes() }
  const numbers = points => points.filter(p => p.customdata !== undefined).map(p => p.customdata)

  function wire() {
    div.on('plotly_click', ({points: [p]}) => say({type: 'click', trace: p.curveNumber, point: p.customdata ?? p.pointNumber, x: p.x, y: p.y}))
    div.on('plotly_selected', e => busy || say({type: 'select', points: numbers(e?.points ?? [])}))
    div.on('plotly_deselect', () => busy || say({type: 'select', points: []}))
    div.on('plotly_relayout', changes => {
      for (const key in changes) {
        const shape = key.match(/^shapes\[(\d+)\]\.x0$/), s = shape && div.layout.shapes[shape[1]]
        if (s) say({type: 'drag', shape: +shape[1], x: (s.x0 + s.x1)/2, y: (s.y0 + s.y1)/2})
      }
    })
    wired = true
  }

  async function drawOnce() {
    const figure = read(model.get('figure'))
    if (!figure.data.length && !figure.layout.title && !figure.layout.annotations) return
    if (asleep) { div.replaceChildren(); asleep = false }
    title.textContent = plain(figure.layout.title?.text)
    div.setAttribute('aria-label', title.textContent || 'figure')
    const editable = (figure.layout.shapes ?? []).some(s => s.editable)          // a new config makes plotly forget its listeners
    if (editable !== edits) { edits = editable; wired = false }
    const layout = fitted(figure, el)
    width = el.clientWidth
    await P.react(div, figure.data, layout, {displaylogo: false, edits: {shapePosition: editable},
      modeBarButtons: figure.config?.modeBarButtons ?? buttons})
    if (!wired) wire()
    await lull(figure)
    div.dataset.drawn = +(div.dataset.drawn ?? 0) + 1
  }

  async function draw() {
    if (busy) { again = true; return }
    busy = true
    try { do { again = false; await drawOnce() } while (again) } finally { busy = false }
  }

  // Browsers allow few WebGL contexts: two figures with many points are awake, an older one is a picture until it is pointed at
  async function lull(figure) {
    if (awake.includes(sleep) || !figure.data.some(t => /gl$/.test(t.type))) return
    awake.push(sleep)
    if (awake.length > 2) await awake.shift()()
  }
  async function sleep() {
    const picture = document.createElement('img')
    picture.alt = title.textContent
    picture.style.maxWidth = '100%'
    picture.src = await P.toImage(div, {format: 'png'})
    P.purge(div)
    wired = false; asleep = true
    div.replaceChildren(picture)
    picture.onpointerenter = draw
  }

  // JupyterLab gives a cell out of sight no width, and says nothing of it when it comes back
  function fit() { if (!asleep && el.clientWidth && el.clientWidth !== width) draw() }
  const resized = new ResizeObserver(fit), seen = new IntersectionObserver(fit)
  const themed  = new MutationObserver(draw)
  model.on('change:figure', draw)
  await draw()
  resized.observe(el)
  seen.observe(el)
  themed.observe(document.body, {attributeFilter: ['data-jp-theme-light', 'class']})
  return () => {
    resized.disconnect(); seen.disconnect(); themed.disconnect()
    if (awake.includes(sleep)) awake.splice(awake.indexOf(sleep), 1)
    P.purge(div)
  }
}}
