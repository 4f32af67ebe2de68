"use strict";
// what assistive technology reads of a bar is also its tooltip
for (const mark of document.querySelectorAll(".chart [aria-roledescription='bar'], .chart [aria-roledescription='point']")) {
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = mark.getAttribute("aria-label");
  mark.append(title);
}
