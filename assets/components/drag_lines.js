// Lines of a figure that can be dragged: tells which one was let go, and where. The figure is drawn by Streamlit, and may come later.
const TRIES = 100, PAUSE_MS = 100;
const MOVED = /^shapes\[(\d+)\]\.x0$/;

export default function (component) {
  const { data, setTriggerValue } = component;
  let tried = 0;
  const look = () => {
    const plot = document.querySelector(`.st-key-${CSS.escape(data.figure)} .js-plotly-plot`);
    if (!plot?.on) {
      if (tried++ < TRIES) setTimeout(look, PAUSE_MS);
      return;
    }
    const isNew = !plot.tellMoved;
    plot.tellMoved = (changes) => {
      for (const [name, value] of Object.entries(changes ?? {})) {
        const line = MOVED.exec(name);
        if (line) setTriggerValue("moved", [Number(line[1]), Number(value)]);
      }
    };
    if (isNew) plot.on("plotly_relayout", (changes) => plot.tellMoved(changes));
  };
  look();
}
