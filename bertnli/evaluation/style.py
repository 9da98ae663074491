"""The style sheet of a report's page: light and dark, wide and narrow; contrasts are AA."""

STYLE = """
:root { color-scheme: light dark; --ground: #fbfaf7; --card: #ffffff; --ink: #1b1f24;
  --soft: #555d66; --line: #dcdad3; --model: #1d5bb8; --base: #a04a00; --tint: 29 91 184;
  --note: #fff4dc; }
@media (prefers-color-scheme: dark) { :root { --ground: #13161b; --card: #1b1f26; --ink: #e9ebee;
  --soft: #a7b0bb; --line: #343b45; --model: #82b4ff; --base: #ffb273; --tint: 110 165 255;
  --note: #33291a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.45rem; margin: 3rem 0 .25rem; padding-top: 1.25rem;
  border-top: 3px solid var(--model); overflow-wrap: anywhere; }
h3 { font-size: 1.08rem; margin: 2rem 0 .25rem; }
p { margin: .4rem 0; } a { color: var(--model); }
.soft, figcaption { color: var(--soft); font-size: .92rem; overflow-wrap: anywhere; }
.note { background: var(--note); border-radius: .5rem; padding: .6rem .9rem; margin: .8rem 0;
  overflow-wrap: anywhere; }
.model { color: var(--model); } .base { color: var(--base); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; }
.cards > div { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: .75rem .9rem; }
.cards dt { color: var(--soft); font-size: .88rem; }
.cards dd { margin: 0; font-size: 1.75rem; font-weight: 650; line-height: 1.25; }
.cards dd.small { font-size: .88rem; font-weight: 400; line-height: 1.4; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  background: var(--card); border: 1px solid var(--line); }
caption { text-align: left; color: var(--soft); font-size: .92rem; padding: .2rem 0 .4rem; }
th, td { padding: .4rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; } thead th { color: var(--soft); font-size: .88rem; vertical-align: bottom; }
th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 6.9rem; }
td small, th small { color: var(--soft); font-weight: 400; font-size: .85em; }
td.bar { width: 38%; min-width: 8rem; } td.bar svg { display: block; width: 100%; height: 1.3rem; }
td.shade { width: 24%;  background: rgb(var(--tint) / calc(var(--share) * .45)); }
tr.sum th, tr.sum td { font-weight: 650; }
figure { margin: .8rem 0; } figure svg { width: 100%; max-width: 24rem; height: auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } svg .ideal { stroke: var(--soft); stroke-dasharray: 4 3; }
svg .fill { fill: var(--model); } svg .whisker { stroke: var(--ink); stroke-width: 1.5; }
svg .mark { fill: var(--base); }
svg .gap { fill: var(--base); fill-opacity: .35; stroke: var(--ground); }
svg .other { fill: var(--soft); fill-opacity: .55; }
svg .track { fill: var(--line); fill-opacity: .5; }
.errors { padding-left: 1.4rem; } .errors li { margin: .9rem 0; padding-left: .3rem; }
.errors p { margin: .1rem 0; overflow-wrap: anywhere; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
@media (max-width: 34rem) { body { font-size: 15px; } th, td { padding: .35rem .4rem; }
  td.bar { width: 28%; min-width: 4.5rem; }
  td small { display: block; } .cards > div { padding: .6rem .7rem; }
  .cards { grid-template-columns: 1fr 1fr; }
  .cards dd { font-size: 1.4rem; } }
@media print { details { display: block; } }
"""
