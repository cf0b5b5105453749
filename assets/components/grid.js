// A grid of cells (rows × columns) with a text and a value each; click, or arrows and Enter, picks one. Home and End go to a row's ends,
// Page up and Page down ten rows on.
export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".scroll");
  const scroll = [root.scrollLeft, root.scrollTop], active = root.getRootNode().activeElement;
  const held = root.contains(active) && active.dataset.at.split(" ");
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
      button.tabIndex = here || (!data.picked && i === 0 && j === data.start) ? 0 : -1;
      button.dataset.at = `${i} ${j}`;
      if (here) button.className = "picked";
      else if (data.picked && (data.picked[0] === i || data.picked[1] === j)) button.className = "cross";
      if (data.faint && data.faint[i][j]) button.classList.add("faint");
      button.onclick = () => setStateValue("picked", [data.origin[0] + i, data.origin[1] + j]);
      button.onkeydown = (event) => {
        const last = [data.rows.length - 1, data.columns.length - 1];
        const place = {
          ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1], Home: [i, 0], End: [i, last[1]],
          PageUp: [Math.max(0, i - 10), j], PageDown: [Math.min(last[0], i + 10), j],
        }[event.key];
        const to = place && buttons[place[0]] && buttons[place[0]][place[1]];
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
  // Cells are made anew whenever the page is: who was on one with the keyboard stays there.
  const again = held && buttons[held[0]] && buttons[held[0]][held[1]];
  if (again) {
    root.querySelector("[tabindex='0']").tabIndex = -1;
    again.tabIndex = 0;
    again.focus({ preventScroll: true });
  }
  // A column that matters is brought into view once, where the reader has not been yet.
  if (data.start && root.dataset.start !== String(data.start)) {
    const labels = head.cells[0].offsetWidth;
    root.scrollLeft = head.cells[data.start + 1].offsetLeft - labels - 8;
    root.dataset.start = data.start;
  }
}
