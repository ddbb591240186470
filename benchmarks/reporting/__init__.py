"""From raw results to what a reader sees; codes are judged here, and nowhere else.

- Values: `metrics` judges codes, `judging` keeps what it said, `runs` collects a suite.
- Who is better: `standing` (means and ranks), `paired` (tests); of a summary `contenders`,
  from which `verdict` makes the sentences that a page opens with.
- table.md: `tables`, their `notes`, `statistics`, `kernel_tables`, a `glossary` of methods.
- report.html: `pictures` (and `insides` of one run) decide what `figures` draws, with
  `captions`; `page` puts text and figures together.
- leaderboard.html: `leaderboard`, one page from the summaries of all suites.
- summary.json: `summing` makes it, `summary` reads and writes it, `shape` checks it;
  `compare` holds it against a baseline, and each `finding` is told.

`writing` writes all of it. `publishing` makes the small form for docs/results:
`short_table`, one `chart`, and the summary after `packing`.
"""
