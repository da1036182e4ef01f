"""The textbook is the definition: its gradients are right, and the fast model computes what it computes."""

import ast
import re
from difflib import SequenceMatcher
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnmt import NMT, textbook
from scratchnmt.gradcheck import assert_gradients, check_directional
from scratchnmt.search import beam_search, greedy_search
from scratchnmt.textbook import BOS, EOS, PAD, backward, forward, translate
from scratchnmt.textbook_demo import main
from scratchnmt.trace import traced

PACKAGE = Path(textbook.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"
TEXT = Path(textbook.__file__).read_text(encoding="utf-8")
LINES = TEXT.split("\n")
EXAMPLE = [4, 3, 4], [BOS, 5, 3, 5, EOS]  # a word occurs twice on either side


def weights(seed, V_src=6, V_tgt=7, E=3, H=4):
    """Of a size at which no gradient is negligible."""
    rng = np.random.default_rng(seed)
    return {name: 0.5 * rng.standard_normal(array.shape)
            for name, array in textbook.new_params(V_src, V_tgt, E, H, rng).items()}


@st.composite
def models_and_pairs(draw):
    """A float64 model and one to four sentence pairs of unequal lengths.

    Weights much larger than these saturate the gates, and 1 - tanh^2 near zero has few digits in whatever code.
    """
    V_src, V_tgt, E, H = (draw(st.integers(*bounds)) for bounds in ((5, 9), (5, 9), (1, 5), (1, 5)))
    model = NMT(V_src, V_tgt, E, H, dtype="float64")
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    model.params.flat[...] = draw(st.sampled_from([0.1, 0.3, 0.6])) * rng.standard_normal(model.params.flat.size)
    sentence = lambda V, least: draw(st.lists(st.integers(EOS + 1, V - 1), min_size=least, max_size=6))
    pairs = [(sentence(V_src, 1), [BOS, *sentence(V_tgt, 0), EOS]) for _ in range(draw(st.integers(1, 4)))]
    return model, pairs


def padded(sentences):
    """Ids (steps, sentences)."""
    ids = np.full((max(map(len, sentences)), len(sentences)), PAD)
    for b, sentence in enumerate(sentences):
        ids[: len(sentence), b] = sentence
    return ids


def batch(pairs):
    sources, targets = zip(*pairs, strict=True)
    return padded(sources), np.array(list(map(len, sources))), padded(targets)


@given(models_and_pairs())
def test_loss_and_gradients_of_a_batch_are_sums_of_the_textbooks(model_and_pairs):
    model, pairs = model_and_pairs
    loss, cache = model.forward(*batch(pairs))
    found = model.backward(cache)
    results = [forward(model.params, *pair) for pair in pairs]
    singles = [backward(model.params, cache) for _, cache in results]
    assert loss == pytest.approx(sum(loss for loss, _ in results), rel=1e-14)
    rounding = 4 * np.finfo(float).eps * max(abs(g).max() for single in singles for g in single.values())
    for name in model.params:
        expected = sum(single[name] for single in singles)
        tolerance = 1e-12 * np.sqrt(np.mean(expected**2)) + rounding  # a gradient may cancel to nothing
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance, err_msg=name)


@settings(max_examples=50)
@given(models_and_pairs())
def test_searches_find_the_textbooks_translations_with_its_scores(model_and_pairs):
    model, pairs = model_and_pairs
    src, lengths, _ = batch(pairs)
    for (sentence, _), found in zip(pairs, greedy_search(model, src, lengths, max_steps=8), strict=True):
        assert found.value == translate(model.params, sentence, most=8)
    results = beam_search(model, src, lengths, max_steps=8, n_best=3, beam_size=3)
    for (sentence, _), hypotheses in zip(pairs, results, strict=True):
        for found in hypotheses:
            tgt = [BOS, *found.value, EOS]
            loss, cache = forward(model.params, sentence, tgt)
            if len(found.value) == 8:  # it was cut off
                loss += cache.log_p[8][EOS]
            assert found.score == pytest.approx(-loss, rel=1e-12)


def test_every_element_of_every_gradient():
    def loss(**params):
        value, cache = forward(params, *EXAMPLE)
        return value, (params, cache)

    def grads(dloss, params_and_cache):
        return {f"d{name}": dloss * gradient for name, gradient in backward(*params_and_cache).items()}

    assert_gradients(loss, grads, weights(0))


def directional(module):
    """The report on the gradients of a textbook."""
    return check_directional(lambda params: module.forward(params, *EXAMPLE)[0],
                             lambda params: module.backward(params, module.forward(params, *EXAMPLE)[1]), weights(1))


def changed(number, line):
    """The textbook with another line."""
    module = ModuleType("changed_textbook")
    exec("\n".join([*LINES[: number - 1], line, *LINES[number:]]), vars(module))
    return module


SUMS = [node for node in ast.walk(ast.parse(TEXT)) if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add)
        and ast.unparse(node.target) != "total"]
FIRST = {"dc_dec[t - 1]", "dh_dec[t - 1]", "do[t - 1]", "dc_fwd[S - 1]", "dc_bwd[0]", "dh_fwd[S - 1]", "dh_bwd[0]",
         "dc_fwd[s - 1]", "dc_bwd[s + 1]"}  # what comes before all other summands of its sum, or is the only one


@pytest.mark.parametrize("node", SUMS, ids=lambda node: f"{node.lineno}: {ast.unparse(node)}")
def test_no_summand_can_be_left_out(node):
    report = directional(changed(node.lineno, " " * node.col_offset + "pass"))
    assert not report.ok and report.wrong


@pytest.mark.parametrize("node", SUMS, ids=lambda node: f"{node.lineno}: {ast.unparse(node)}")
def test_only_the_first_summand_could_be_assigned(node):
    target = ast.unparse(node.target)
    line = f"{' ' * node.col_offset}{target} = {ast.unparse(node.value)}"
    assert directional(changed(node.lineno, line)).ok == (target in FIRST)


def test_there_are_sums_and_unchanged_they_are_right():
    assert len(SUMS) == 29
    assert {ast.unparse(node.target) for node in SUMS} >= FIRST
    assert directional(textbook).ok


def part(function):
    """The lines of a function: code without comments; comments that have a line of their own, after "# "."""
    (node,) = [node for node in ast.parse(TEXT).body if getattr(node, "name", None) == function]
    return [line.strip() if line.strip().startswith("# ") else line.partition("  #")[0].strip()
            for line in LINES[node.lineno : node.end_lineno]]


@pytest.mark.parametrize("forth, back", [("lstm_cell", "lstm_cell_backward"), ("forward", "backward")])
def test_backward_quotes_the_forward_pass_from_its_last_line_to_its_first(forth, back):
    setup = ("S, T, H", "W_fwd", "h_fwd, c_fwd", "h_bwd, c_bwd", "h_enc, keys", "o, a,", "Wx, Wh", "c_dec, ")
    code = [line for line in part(forth) if re.match(r"[\w\[\], ]+ -?= ", line) and not line.startswith(setup)
            or line.startswith(("h_fwd[s], ", "h_bwd[s], "))]
    assert [line for line in part(back) if line.startswith("# ")] == [f"# {line}" for line in reversed(code)]


def test_equations_that_lines_name_exist():
    named = set(re.findall(r" #.* (\w+) (\(\d\))$", TEXT, re.MULTILINE))
    assert len(named) == 17
    for module, number in named:
        folder = "models" if module in ("encoder", "decoder", "nmt") else "ops"
        assert f"    {number}  " in import_module(f"scratchnmt.{folder}.{module}").__doc__, f"{module} {number}"


def test_it_is_read_in_one_sitting_and_needs_numpy_alone():
    assert len(LINES) < 240 and max(map(len, LINES)) <= 100
    imports = [node for node in ast.parse(TEXT).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert names == {"collections.abc", "types", "numpy"}


def test_the_weights_of_a_trained_model_go_in_as_they_are():
    model = NMT(6, 7, 3, 4, seed=1)  # float32
    loss, cache = forward(model.params, *EXAMPLE)
    assert loss == pytest.approx(model.nll(*batch([EXAMPLE])), rel=1e-5)
    assert backward(model.params, cache).keys() == model.params.keys()


def test_new_params_have_the_names_and_shapes_of_the_model():
    found = textbook.new_params(6, 7, 3, 4, np.random.default_rng(0))
    assert {name: array.shape for name, array in found.items()} == NMT(6, 7, 3, 4).config.shapes()


def test_it_learns_short_sentences(capsys):
    """One of the five passes; all of them are a slow test."""
    assert main(["--passes", "1"]) == 0
    printed = capsys.readouterr().out
    assert int(re.search(r"(\d+) of 100 sentences", printed)[1]) >= 25
    assert "agree with complex-step differentiation" in printed


@pytest.mark.slow
def test_it_learns_short_sentences_well(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    losses = list(map(float, re.findall(r"pass \d: ([\d.]+)", printed)))
    assert losses == sorted(losses, reverse=True) and len(losses) == 5
    assert int(re.search(r"(\d+) of 100 sentences", printed)[1]) >= 80


def test_a_wrong_number_of_passes_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--passes", "0"])
    assert stopped.value.code == 2
    assert "--passes is 0, expected at least 1" in capsys.readouterr().err


def table():
    """The rows of the page's section 8, by the heads of its columns."""
    page = (DOCS / "textbook.md").read_text(encoding="utf-8")
    section = page.partition("\n## 8.")[2].partition("\n## ")[0]
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in section.split("\n")
                      if line.startswith("|"))
    return [dict(zip(head, row, strict=True)) for row in rows]


def places(cell):
    """What the column "fast code" names: links to files, each with the code behind it, a function and then lines."""
    found = []
    for file, target, code in re.findall(r"\[`([^`]+)`\]\(([^)]+)\)|`([^`]+)`", cell):
        if file:
            assert target == f"../scratchnmt/{file}", f"{file} links to {target}: write ../scratchnmt/{file}"
            found.append((file, []))
        else:
            assert found, f"`{code}` stands before any file: write [`file`](../scratchnmt/file) `function`: `line`"
            found[-1][1].append(code)
    assert found, "no file is named: write [`file`](../scratchnmt/file) `function`: `line`"
    return found


QUOTABLE = (ast.Assign, ast.AugAssign, ast.Return, ast.Call, ast.keyword)


def functions(file):
    """Of each function, under "name" or "Class.name", its pieces of code that can be quoted, without white space."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    body = ast.parse(text).body
    named = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    named |= {f"{a_class.name}.{node.name}": node for a_class in body if isinstance(a_class, ast.ClassDef)
              for node in a_class.body if isinstance(node, ast.FunctionDef)}
    pieces = lambda function: [ast.get_source_segment(text, node) for node in ast.walk(function)
                               if isinstance(node, QUOTABLE)]
    return {name: {"".join(piece.split()): " ".join(piece.split()) for piece in pieces(node)}
            for name, node in named.items()}


def nearest(wanted, known):
    return max(known, key=lambda one: SequenceMatcher(None, wanted, one).ratio())


def mistake(file, code):
    """What is wrong with a place that the table names, and what to write instead; "" if nothing is."""
    if not (PACKAGE / file).is_file():
        known = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
        return f"there is no scratchnmt/{file}: write {nearest(file, known)}"
    known = functions(file)
    if not code:
        return f"no function of {file} is named: write one of {', '.join(known)}"
    function, *lines = code
    wanted = {"".join(line.split()): line for line in lines}
    if function not in known:
        having = [name for name, pieces in known.items() if wanted and wanted.keys() <= pieces.keys()]
        return f"{file} has no function `{function}`: write `{nearest(function, having or known)}`"
    for key, line in wanted.items():
        if key not in known[function]:
            having = [name for name, pieces in known.items() if key in pieces]
            right = f"{having[0]}`, where it stands" if having else f"{nearest(line, known[function].values())}`"
            return f"`{function}` of {file} has no `{line}`: write `{right}"
    return ""


def test_the_table_of_the_page_has_every_sum():
    told = {line for row in table() for line in re.findall(r"`([^`]+ \+= [^`]+)`", row["its gradient is added in"])}
    assert told == {ast.get_source_segment(TEXT, node) for node in SUMS}


@pytest.mark.parametrize("row", table(), ids=lambda row: row["its gradient is added in"])
def test_the_fast_code_stands_where_the_table_says(row):
    for file, code in places(row["fast code"]):
        assert not (wrong := mistake(file, code)), f"docs/textbook.md, table of section 8: {wrong}"


@pytest.mark.parametrize("file, code, told", [
    ("ops/lstm_gate.py", ["lstm_gates_backward"], "there is no scratchnmt/ops/lstm_gate.py: write ops/lstm_gates.py"),
    ("ops/lstm_gates.py", ["gates_backward"], "has no function `gates_backward`: write `lstm_gates_backward`"),
    ("ops/lstm_gates.py", ["backward", "dc_all += dc"], "has no function `backward`: write `lstm_gates_backward`"),
    ("models/attention/scores.py", ["dkeys"], "has no function `dkeys`: write `Dot.dkeys`"),
    ("ops/lstm_gates.py", ["lstm_gates_backward", "dc_all += dcx"], "has no `dc_all += dcx`: write `dc_all += dc`"),
    ("ops/lstm_gates.py", ["lstm_gates_backward", "c += i * g"], "write `lstm_gates_forward`, where it stands"),
    ("ops/lstm_gates.py", [], "no function of ops/lstm_gates.py is named: write one of lstm_gates_forward, "),
])
def test_a_wrong_place_is_told_what_to_write(file, code, told):
    assert told in mistake(file, code)


def path_of_reading():
    """The files after textbook.py in the list of docs/architecture.md."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    first, *path = re.findall(r"`([\w/]+\.py)`", page.partition("\n## Reading the code\n")[2].partition("\n## ")[0])
    assert first == "textbook.py"
    return path


def told_at_the_top(file):
    """A file's docstring in one line."""
    return " ".join(ast.get_docstring(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))).split())


def test_the_path_of_reading_leads_from_file_to_file():
    path = path_of_reading()
    assert {file for row in table() for file, _ in places(row["fast code"])} <= set(path)
    for file, following in zip(path, path[1:], strict=False):
        found = re.search(r"Next: ([\w/]+\.py)", told_at_the_top(file))
        assert found and found[1] == following, \
            f"docs/architecture.md has {following} after {file}: write Next: {following} at the top of {file}"


@pytest.mark.parametrize("file", [file for file in path_of_reading() if file.startswith(("models", "ops/"))
                                  and file != "ops/plain.py"])
def test_a_fast_file_names_its_lines_of_the_textbook(file):
    told = re.search(r"The textbook computes the same for one (?:sentence|word), (.*?\.) Next: ", told_at_the_top(file))
    assert told, f"{file} does not say which lines of the textbook it computes, and what to read next"
    names = re.findall(r"`([^`]+)`", told[1])
    assert names and [name for name in names if name not in TEXT] == []


def test_an_error_in_a_traced_function_is_its_own():
    with pytest.raises(IndexError, match="index 99 is out of bounds"):
        traced(textbook, forward, weights(0), [3, 99], [BOS, EOS])
