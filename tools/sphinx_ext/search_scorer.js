// Sphinx puts this in place of its own scores, which it repeats apart from `score`. Of results that
// are equally good, the front page comes first: the index entries on it are what people search for.
var Scorer = {
  score: ([page, _title, _anchor, _about, score]) => score + (page === "book/index" ? 1 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
