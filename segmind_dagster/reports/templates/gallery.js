"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const grid = byId("grid"), viewer = byId("viewer"), stage = byId("stage");
  const axes = new Map(data.axes.map((axis) => [axis.name, axis]));
  const CHUNK = 48; // cards built at a time
  let order = []; // numbers of the shown cards, as they are laid out
  let position = 0; // of the one that has the focus
  let viewed = 0; // of the one that the viewer shows
  let builders = []; // what is still to be built, one function a row or card
  let observer = null;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function role(element, name) {
    element.setAttribute("role", name);
    return element;
  }

  // -- what is shown

  function wanted() {
    const statuses = new Set([...document.querySelectorAll("input[name=status]:checked")].map((box) => box.value));
    const former = byId("former")?.checked ?? false;
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    return data.cards.flatMap((card, number) => {
      const isWanted = (card.former ? former : statuses.has(card.status))
        && words.every((word) => card.prompt.toLowerCase().includes(word));
      return isWanted ? [number] : [];
    });
  }

  /** Cards by their value on an axis, in the order of the values; without an axis, all together. */
  function grouped(numbers, axis) {
    if (!axis) return [[null, numbers]];
    const groups = new Map();
    for (const number of numbers) {
      const place = axis.positions[number] ?? axis.values.length;
      if (!groups.has(place)) groups.set(place, []);
      groups.get(place).push(number);
    }
    return [...groups].sort((a, b) => a[0] - b[0]);
  }

  const valueName = (axis, place) => axis.values[place] ?? `no ${axis.label}`;

  function layOut() {
    const numbers = wanted();
    const rows = axes.get(byId("rows")?.value), columns = axes.get(byId("columns")?.value);
    observer?.disconnect();
    grid.replaceChildren();
    position = 0;
    if (!numbers.length) {
      order = [];
      builders = [];
      grid.append(make("p", "muted", "Nothing matches. Allow another status, or other words."));
    } else if (!rows && !columns) {
      wall(numbers);
    } else {
      table(numbers, rows, columns);
    }
    byId("shown").textContent = numbers.length === data.cards.length
      ? `All ${numbers.length} shown.` : `${numbers.length} of ${data.cards.length} shown.`;
    build();
    observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      build();
      // an observer speaks only of changes, and the end may still be in view
      observer.unobserve(byId("more"));
      if (builders.length) observer.observe(byId("more"));
    }, {rootMargin: "1200px"});
    if (builders.length) observer.observe(byId("more"));
  }

  function wall(numbers) {
    order = numbers;
    const list = role(make("div", "wall"), "list");
    grid.append(list);
    builders = numbers.map((number) => () => {
      const item = role(make("div"), "listitem");
      item.append(card(number, true));
      list.append(item);
      return 1;
    });
  }

  function table(numbers, rows, columns) {
    const across = columns ? grouped(numbers, columns).map(([place]) => place) : [];
    const box = make("div", "scroll");
    const whole = role(make("div", columns ? "table" : "table loose-table"), "table");
    whole.style.setProperty("--columns", across.length);
    const down = grouped(numbers, rows);
    whole.setAttribute("aria-rowcount", down.length + (columns ? 1 : 0));
    whole.setAttribute("aria-label", [rows, columns].filter(Boolean).map((axis) => axis.label).join(" by "));
    if (columns) {
      const head = role(make("div", "row head"), "row");
      head.append(role(make("div", "rowhead", rows ? rows.label : ""), "columnheader"));
      for (const place of across) {
        const cell = role(make("div"), "columnheader");
        cell.append(make("span", "label", valueName(columns, place)));
        head.append(cell);
      }
      whole.append(head);
    }
    const body = role(make("div", "body"), "rowgroup");
    whole.append(body);
    box.append(whole);
    grid.append(box);
    const captioned = rows?.name !== "prompt" && rows?.name !== "filled_in";
    // what tells cards of one cell apart
    const others = data.axes.filter((axis) => axis !== rows && axis !== columns
      && (axis.name === "model" || axis.name === "seed" || axis.name === "sample" || axis.name.startsWith("parameter ")));
    order = [];
    builders = [];
    down.forEach(([place, inRow], rowNumber) => {
      const cells = columns ? new Map(grouped(inRow, columns)) : new Map([[null, inRow]]);
      const places = columns ? across : [null];
      for (const column of places) order.push(...(cells.get(column) ?? []));
      builders.push(() => {
        const row = role(make("div", columns ? "row" : "row loose"), "row");
        row.setAttribute("aria-rowindex", rowNumber + (columns ? 2 : 1));
        const head = role(make("div", "rowhead"), "rowheader");
        head.append(make("span", "label", rows ? valueName(rows, place) : ""));
        row.append(head);
        for (const column of places) {
          const cell = role(make("div", "cell"), "cell");
          const found = cells.get(column) ?? [];
          if (columns && found.length) cell.append(make("span", "columnname", valueName(columns, column)));
          const differing = others.filter((axis) => new Set(found.map((number) => axis.positions[number])).size > 1);
          for (const number of found) cell.append(card(number, captioned, differing));
          if (!found.length) {
            cell.classList.add("empty");
            cell.append("–");
          }
          row.append(cell);
        }
        body.append(row);
        return inRow.length;
      });
    });
  }

  function build() {
    let built = 0;
    while (builders.length && built < CHUNK) built += builders.shift()();
    if (!grid.querySelector(".card[tabindex='0']")) grid.querySelector(".card")?.setAttribute("tabindex", "0");
  }

  // -- one card

  function card(number, captioned, differing = []) {
    const shown = data.cards[number];
    const button = make("button", "card");
    button.type = "button";
    button.dataset.number = number;
    button.tabIndex = -1;
    if (shown.status === "failed") button.classList.add("failed");
    if (shown.former) button.classList.add("former");
    button.setAttribute("aria-label",
      [shown.prompt.slice(0, 200) || shown.kind, shown.model, shown.line, shown.former ? "no longer asked for" : shown.status]
        .filter(Boolean).join("; "));
    const frame = make("span", "frame");
    frame.append(...face(shown));
    const caption = make("span", "caption");
    const places = differing.filter((axis) => axis.positions[number] !== null);
    if (places.length) {
      caption.append(make("span", "apart", places.map((axis) =>
        axis.name === "model" ? axis.values[axis.positions[number]] : `${axis.label} ${axis.values[axis.positions[number]]}`).join(" · ")));
    }
    if (captioned) caption.append(make("span", "text", shown.prompt));
    caption.append(make("span", "line", shown.former ? `no longer asked for · ${shown.line}` : shown.line));
    button.append(frame, caption);
    return button;
  }

  function face(shown) {
    if (shown.thumbnail) {
      const image = make("img");
      image.loading = "lazy";
      image.decoding = "async";
      image.alt = "";
      if (shown.size) [image.width, image.height] = shown.size;
      image.src = shown.thumbnail;
      return [image];
    }
    if (shown.text !== undefined) return [make("span", "words", shown.text.slice(0, 400))];
    if (shown.failure) return [why(shown.failure)];
    if (shown.kind === "video" && shown.opens) {
      const video = make("video");
      video.muted = true;
      video.preload = "metadata";
      video.tabIndex = -1;
      video.src = `${shown.link}#t=0.1`;
      return [video, make("span", "over", "▶")];
    }
    if (shown.link) {
      const glyphs = {video: "▶", audio: "♪", text: "¶", image: "▧"};
      const glyph = make("span", "glyph", glyphs[shown.kind]);
      glyph.append(make("small", "", shown.kind === "image" ? "the picture could not be read" : shown.kind));
      return [glyph];
    }
    const glyph = make("span", "glyph", "…");
    glyph.append(make("small", "", shown.status));
    return [glyph];
  }

  function why([kind, error]) {
    const box = make("span", "why");
    box.append(make("b", "", kind.replaceAll("_", " ")), error);
    return box;
  }

  // -- the viewer

  function show(where) {
    viewed = Math.max(0, Math.min(order.length - 1, where));
    const shown = data.cards[order[viewed]];
    stage.replaceChildren(...full(shown));
    byId("viewer-place").textContent = `${viewed + 1} of ${order.length}`;
    // a button that is disabled while it has the focus would swallow the keys
    byId("previous").setAttribute("aria-disabled", viewed === 0);
    byId("next").setAttribute("aria-disabled", viewed === order.length - 1);
    byId("viewer-title").textContent = shown.prompt || "(no prompt)";
    byId("viewer-status").textContent = shown.former ? `${shown.status}, no longer asked for` : shown.status;
    byId("viewer-status").className = "muted";
    const file = byId("viewer-file");
    file.replaceChildren();
    if (shown.link && shown.opens) {
      const link = make("a", "", "Open the file");
      link.href = shown.link;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
      file.append(link);
    } else if (shown.link) {
      file.append("Stored at ", make("code", "", shown.link));
    }
    byId("details").replaceChildren(
      ...shown.details.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
    if (!viewer.open) viewer.showModal();
    document.querySelector(".about").scrollTop = 0;
  }

  function full(shown) {
    if (shown.kind === "image" && (shown.thumbnail || shown.link)) {
      const image = make("img");
      image.alt = shown.prompt.slice(0, 500);
      const small = (note) => {
        image.className = "small";
        image.onerror = null;
        if (shown.thumbnail) image.src = shown.thumbnail;
        else image.remove();
        stage.append(make("p", "note", note));
      };
      if (!shown.opens) {
        image.className = "small";
        image.src = shown.thumbnail ?? "";
        return [image, make("p", "note", "A small version: a browser cannot open the place where the full picture is stored.")];
      }
      image.onerror = () => small("A small version: the full picture could not be opened from here.");
      image.src = shown.link;
      return [image];
    }
    if (["video", "audio"].includes(shown.kind) && shown.opens) {
      const player = make(shown.kind);
      player.controls = true;
      player.preload = "metadata";
      player.setAttribute("aria-label", shown.prompt.slice(0, 200));
      player.src = shown.link;
      return [player];
    }
    if (shown.text !== undefined) return [make("div", "words", shown.text)];
    if (shown.failure) return [why(shown.failure)];
    return face(shown);
  }

  // -- keys and clicks

  function focus(where) {
    if (where < 0 || where >= order.length) return;
    while (builders.length && !grid.querySelector(`[data-number="${order[where]}"]`)) build();
    const target = grid.querySelector(`[data-number="${order[where]}"]`);
    if (!target) return;
    grid.querySelectorAll(".card[tabindex='0']").forEach((other) => { other.tabIndex = -1; });
    target.tabIndex = 0;
    target.focus();
    target.scrollIntoView({block: "nearest", inline: "nearest"});
    position = where;
  }

  /** The card on the next line up or down that is nearest from left to right. */
  function beside(target, direction) {
    const from = target.getBoundingClientRect(), middle = from.left + from.width / 2;
    let best = null, bestLine = Infinity, bestAside = Infinity;
    for (let at = position + direction; at >= 0 && at < order.length; at += direction) {
      const other = grid.querySelector(`[data-number="${order[at]}"]`);
      if (!other) break;
      const box = other.getBoundingClientRect();
      const line = direction * (box.top - from.top);
      if (line < from.height / 2) continue;
      if (best !== null && line > bestLine + from.height / 2) {
        if (Math.abs(at - position) > 200) break;
        continue;
      }
      const aside = Math.abs(box.left + box.width / 2 - middle);
      if (best === null || aside < bestAside) [best, bestLine, bestAside] = [at, line, aside];
    }
    return best;
  }

  grid.addEventListener("click", (event) => {
    const target = event.target.closest(".card");
    if (target) show(order.indexOf(Number(target.dataset.number)));
  });
  grid.addEventListener("focusin", (event) => {
    const target = event.target.closest(".card");
    if (target) position = order.indexOf(Number(target.dataset.number));
  });
  grid.addEventListener("keydown", (event) => {
    const target = event.target.closest(".card");
    if (!target || event.altKey || event.ctrlKey || event.metaKey) return;
    const vertical = {ArrowUp: -1, ArrowDown: 1}[event.key];
    const to = {ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: order.length - 1}[event.key]
      ?? (vertical ? beside(target, vertical) : null);
    if (to === null) return;
    event.preventDefault();
    focus(to);
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("video, audio")) return;
    const to = {ArrowLeft: viewed - 1, ArrowRight: viewed + 1, Home: 0, End: order.length - 1}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  // the browser gives the focus back to the card that opened the viewer; another one may have been looked at since
  viewer.addEventListener("close", () => { stage.replaceChildren(); focus(viewed); });
  byId("previous").addEventListener("click", () => show(viewed - 1));
  byId("next").addEventListener("click", () => show(viewed + 1));
  byId("close").addEventListener("click", () => viewer.close());
  byId("controls").addEventListener("change", layOut);
  byId("find").addEventListener("input", layOut);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  layOut();
})();
