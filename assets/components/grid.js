// A grid of cells (rows × columns) with a text and a value each; click, or arrows and Enter, picks one.
export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".scroll");
  const scroll = [root.scrollLeft, root.scrollTop];
  const table = document.createElement("table");
  table.setAttribute("role", "grid");
  const head = table.createTHead().insertRow();
  const corner = document.createElement("th");
  corner.textContent = data.corner || "";
  head.append(corner);
  data.columns.forEach((text, j) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    if (data.picked && data.picked[1] === j) cell.className = "on";
    head.append(cell);
  });
  // A cell's text that is a number is what its value says already.
  const numeric = !data.texts || data.texts.flat().every((text) => /^([-−+]?[\d.,]+(e[-+]?\d+)?%?|[·–]?)$/.test(text));
  const body = table.createTBody(), buttons = [];
  const ground = (value) => {
    if (value === null || value === undefined) return "transparent";
    const size = Math.min(1, Math.abs(value));
    const hue = data.signed ? (value < 0 ? "0, 114, 178" : "213, 94, 0") : "79, 70, 229";
    return `rgba(${hue}, ${(0.04 + 0.62 * size).toFixed(3)})`;
  };
  data.rows.forEach((name, i) => {
    const line = body.insertRow(), label = document.createElement("th");
    label.scope = "row";
    label.textContent = name;
    if (data.picked && data.picked[0] === i) label.className = "on";
    line.append(label);
    buttons.push(data.columns.map((_, j) => {
      const cell = line.insertCell(), button = document.createElement("button");
      const value = data.values[i][j];
      button.type = "button";
      button.textContent = data.texts ? data.texts[i][j] : "";
      button.style.background = ground(data.scale ? value / data.scale : value);
      const told = data.hover ? data.hover[i][j] : value === null ? "" : Number(value).toPrecision(3);
      const content = [numeric ? "" : button.textContent, told].filter(Boolean).join(", ");
      button.title = `${data.named[0][i]}, ${data.named[1][j]}: ${content}`;
      button.setAttribute("aria-label", button.title);
      const here = data.picked && data.picked[0] === i && data.picked[1] === j;
      button.tabIndex = here || (!data.picked && i === 0 && j === 0) ? 0 : -1;
      if (here) button.className = "picked";
      else if (data.picked && (data.picked[0] === i || data.picked[1] === j)) button.className = "cross";
      if (data.faint && data.faint[i][j]) button.classList.add("faint");
      button.onclick = () => setStateValue("picked", [i, j]);
      button.onkeydown = (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        const to = step && buttons[i + step[0]] && buttons[i + step[0]][j + step[1]];
        if (!to) return;
        event.preventDefault();
        button.tabIndex = -1;
        to.tabIndex = 0;
        to.focus();
      };
      cell.append(button);
      return button;
    }));
  });
  root.replaceChildren(table);
  [root.scrollLeft, root.scrollTop] = scroll;
  // A column that matters is brought into view once, where the reader has not been yet.
  if (data.start && root.dataset.start !== String(data.start)) {
    const labels = head.cells[0].offsetWidth;
    root.scrollLeft = head.cells[data.start + 1].offsetLeft - labels - 8;
    root.dataset.start = data.start;
  }
}
