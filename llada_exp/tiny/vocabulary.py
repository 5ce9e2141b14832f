"""The words that the tokenizer learns, with `_` for a space: what questions and answers hold often,
counted once and written down, so that a new wording does not change the ids of a model that is
trained already."""

WORDS = r"""
user assistant system _+_ _=_ _-_ ,_ :_ )_ ._ ####_ _*_ _the _is boxed _of _answer _many How _and On _she
_he _in _\ {}. _you What _to and _does _are _have Answer ?_ _a _plus _following _has _minus what _do _by
_me _final _more how Solve _problem _only _step _math on _put Question _away Put _left Please _much -( ):_
_get She _sums digit _with He _what _them _your _add _sure then _now _from _number please Give _question
_take _( Make inside _Monday _Tuesday _Wednesday _gets _there _gives add _owns _one ;_ _am _model _finds
_buys Problem _receives _know _wins _given _collects _sells _starts _result _Thursday _balls _breaks _uses
_eats Solution _it _drops _can !_ Can _loses _up _two _tiny _test _differences products _chains _stories
_six Try take _I _out _end _dollars _times _reason _within _that Do she _books _toys he _people _sum
_stamps _shells _stones _eggs Then _flowers _pencils _make _cookies _apples _pens _candies _pears _oranges
_cards _marbles _stickers _coins _if _subtract Hi _work _equal _equals _for _tell _on Tell _Friday _value
_help can _monday _tuesday _wednesday Find _box Later After _room The _tree _loaves _product _birds _come
Take _multiply _thursday Quick There _added _bus _passengers do Hello So subtract Add Let Calculate Thank
_i ?,_ _x plus Multiply _Give find _be Start _this _not _careful {- _will _together _want _than It
_calculate tell _holds _Saturday _simple the _morning _makes Sam Emma Leo _difference minus Anna _us _try
_solve thanks Peter Max _need Sara Eva Ben ... Mia Tom +_ _less Lily there _- _+ _at calculate If solve
_leave Ok _= hi :) _shop _bread Next -_ Good _Is so Here Now after _friday Quickly multiply Just Well
Compute Explain Dear _off later Hey _IS Math Help Work give And Exercise if let Be Subtract =? start Could
My Step peter ??? OK Thanks Determine lily ok ?! sam emma hello sara Think Begin mia anna max _multiplied
leo tom Evaluate HOW eva Show Simplify _arrive quick _thanks ON _bakes _when _increased WHAT _subtracted
_total _Anna _MANY _Many ben ?? thank _decreased _after _Peter _Sam _Leo _removed could _please _Sara
_taken _She _boxes _taking _Emma _lose compute _remains _You _sold _Ben simplify _saturday _Tom _go _Eva
_THE _fly work _The _Max _HE _Mia _SHE _OF _Lily determine it _Thank _Of evaluate help answer _What just
well math my _Do _Have _YOU _Does _He dear next =_ here Deduct step Decrease now From begin _bags _all
_ARE hey Sum _Minus _DOES good _And problem question _HAVE _about _packs Who _who Why _divided _percent
_square _root _average _language _name Divide divide _over _write Write _story _count
"""
