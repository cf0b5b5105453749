// A row of tokens: colour says a value, a mark says read or written, hover or focus shows a card, click or Enter pins.
// Every text comes in through textContent: tokens are what a model wrote, and stay text.
export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".strip");
  const card = parentElement.querySelector(".card");
  const active = root.getRootNode().activeElement, held = root.contains(active) && active.dataset.at;
  root.replaceChildren();
  root.classList.toggle("prose", Boolean(data.texts));
  card.hidden = true;
  const shade = (value, signed) => {
    const size = Math.min(1, Math.abs(value));
    if (size < 0.02) return "transparent";
    const hue = !signed ? "79, 70, 229" : value < 0 ? "0, 114, 178" : "213, 94, 0";
    return `rgba(${hue}, ${(0.08 + 0.5 * size).toFixed(3)})`;
  };
  const show = (index, cell) => {
    card.replaceChildren();
    const head = document.createElement("div");
    head.className = "head";
    head.textContent = `${index + data.offset}  ${data.tokens[index]}` + (data.notes ? `   ${data.notes[index] || ""}` : "");
    card.append(head);
    for (const group of (data.cards && data.cards[index]) || []) {
      const title = document.createElement("div");
      title.className = "title";
      title.textContent = group.title;
      card.append(title);
      for (const [name, share] of group.rows) {
        const row = document.createElement("div"), label = document.createElement("span"), bar = document.createElement("i"), figure = document.createElement("em");
        row.className = "row";
        label.textContent = name;
        bar.style.width = `${Math.round(share * 70)}px`;
        bar.style.background = group.colour || "currentColor";
        figure.textContent = share >= 0.001 ? share.toPrecision(2) : "<0.001";
        row.append(label, bar, figure);
        card.append(row);
      }
    }
    card.hidden = false;
    const box = cell.getBoundingClientRect(), all = parentElement.querySelector(".frame").getBoundingClientRect();
    card.style.left = `${Math.max(0, Math.min(box.left - all.left, all.width - card.offsetWidth))}px`;
    card.style.top = `${box.bottom - all.top + 4}px`;
  };
  const cells = data.tokens.map((text, index) => {
    // A button is a box of its own, between two of which a line may break: in running text a token is a span that acts as one.
    const cell = document.createElement(data.texts ? "span" : "button");
    cell.className = "token";
    if (data.texts) cell.setAttribute("role", "button");
    else cell.type = "button";
    cell.textContent = !data.texts ? text : (index ? data.texts[index] : data.texts[0].trimStart()).replaceAll("\n", "");
    cell.title = "";
    cell.tabIndex = index === (data.pinned ?? 0) ? 0 : -1;
    cell.dataset.at = index;
    cell.setAttribute("aria-label", `token ${index + data.offset}: ${text}` + (data.notes ? `, ${data.notes[index] || ""}` : ""));
    cell.setAttribute("aria-pressed", String(index === data.pinned));
    if (data.values && data.values[index] !== null) cell.style.background = shade(data.values[index], data.signed);
    if (data.marks && data.marks[index]) cell.classList.add(...data.marks[index].split(" "));
    if (index === data.pinned) cell.classList.add("pinned");
    cell.onmouseenter = () => show(index, cell);
    cell.onfocus = () => { if (cell.matches(":focus-visible")) show(index, cell); };
    cell.onmouseleave = cell.onblur = () => { card.hidden = true; };
    cell.onclick = () => setStateValue("pinned", data.offset + index);
    cell.onkeydown = (event) => {
      if (data.texts && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        cell.click();
      }
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: cells.length - 1 }[event.key];
      if (to === undefined || !cells[to]) return;
      event.preventDefault();
      cell.tabIndex = -1;
      cells[to].tabIndex = 0;
      cells[to].focus();
    };
    root.append(cell);
    for (const _ of data.texts ? data.texts[index].matchAll("\n") : text.includes("⏎") ? [0] : []) root.append(document.createElement("br"));
    return cell;
  });
  // Tokens are made anew whenever the page is: who was on one with the keyboard stays there.
  if (held && cells[held]) {
    cells.forEach((cell, index) => { cell.tabIndex = index === Number(held) ? 0 : -1; });
    cells[held].focus({ preventScroll: true });
  }
}
