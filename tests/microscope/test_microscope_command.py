"""`scratchnmt microscope`, and the page from a server."""

import json
import re
import socket
import threading
from http.client import HTTPConnection

import numpy as np
import pytest
from test_microscope_page import WORDS, embedded, small_model

from scratchnmt.checkpoint import save_model
from scratchnmt.data.vocab import WordVocabulary
from scratchnmt.errors import MachineError
from scratchnmt.microscope import Microscope
from scratchnmt.microscope.serve import LARGEST, Server

OTHERS = WordVocabulary([f"{WORDS.token(i)}!" for i in range(4, len(WORDS))])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "model"
    save_model(folder, small_model(), WORDS, WORDS)
    return folder


@pytest.fixture
def looked(call, run_folder, tmp_path):
    """The command with these options; exit status, standard output and error, the page's data."""
    def run(*options, out=tmp_path / "page.html"):
        status, said, errors = call("microscope", "--model", run_folder, "--checks", 5, "--bugs", "none", *options,
                                    *(["--out", out] if out else []))
        page = out.read_text() if out and out.exists() else ""
        return status, said, errors, json.loads(embedded(page)) if page else None
    return run


@pytest.mark.parametrize("side, vocabularies", [("src", (OTHERS, WORDS)), ("tgt", (WORDS, OTHERS))])
def test_a_model_of_other_words_is_not_compared(looked, tmp_path, side, vocabularies):
    save_model(tmp_path / "other", small_model(), *vocabularies)
    status, _, error, data = looked("--src", "a b c", "--compare", tmp_path / "other")
    assert status == 2 and data is None and f"{side}.vocab.json is not the same vocabulary as " in error
    assert "models whose steps are compared must share" in error


def test_a_page_is_written_of_a_sentence_and_its_own_translation(looked):
    status, said, errors, data = looked("--src", "a b c")
    assert (status, errors) == (0, "") and data["sentences"][0]["chosen"] == "translated"
    assert data["sentences"][0]["src"] == ["a", "b", "c"] and data["sentences"][0]["tgt"][-1] == "</s>"
    assert "page.html: 1 sentence, loss " in said and "5 of 5 gradients inside the step agree" in said


def test_several_sentences_and_named_numbers(looked):
    status, _, _, data = looked("--src", "a b", "--tgt", "c", "--src", "d", "--tgt", "e f g", "--check", "h_dec/1/2/3",
                                "--check", "x/0/1/0")
    assert status == 0 and [sentence["src"] for sentence in data["sentences"]] == [["a", "b"], ["d"]]
    assert [check["q"] for check in data["checks"][:2]] == ["h_dec", "x"] and len(data["checks"]) == 7
    assert data["made"].startswith("scratchnmt microscope --model ")


def test_sentences_of_files(looked, tmp_path):
    (tmp_path / "a.txt").write_text("a b\nc\n")
    (tmp_path / "b.txt").write_text("d\ne f\n")
    status, _, _, data = looked("--input", tmp_path / "a.txt", "--target", tmp_path / "b.txt")
    assert status == 0 and [sentence["tgt"] for sentence in data["sentences"]] == [["d", "</s>"], ["e", "f", "</s>"]]


def test_unknown_words_are_told_on_standard_error(looked):
    status, _, errors, data = looked("--src", "a zebra", "--tgt", "b")
    assert status == 0 and data["sentences"][0]["src"] == ["a", "zebra"]
    assert "warning: source 1: 'a zebra' has words that the vocabulary does not have" in errors


@pytest.mark.parametrize("options, expected", [
    ([], "no sentence was given: expected --src"),
    (["--src", ""], "source 1 is empty"),
    (["--src", "a", "--tgt", "b", "--tgt", "c"], "1 source sentences and 2 translations"),
    (["--tgt", "b", "--input", "few.txt"], "--tgt needs --src"),
    (["--src", "a", "--target", "few.txt"], "--target needs --input"),
    (["--src", "a", "--input", "few.txt"], "--input is a file of sentences, and --src"),
    (["--input", "many.txt"], "many.txt has more than 4 lines.*head -n 4 "),
    (["--input", "none.txt"], "none.txt"),
    (["--src", "a", "--port", "80"], "--port needs --serve"),
    (["--src", "a", "--serve", "--port", "70000"], "port is 70000, expected a whole number from 0 to 65535"),
    (["--src", "a", "--check", "h_dec/9/0/0"], "there are 1 sentences, counted from 0")])
def test_bad_input_is_one_sentence(looked, tmp_path, monkeypatch, options, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many.txt").write_text("a\n" * 5)
    (tmp_path / "few.txt").write_text("a\n")
    status, _, errors, data = looked(*options, out=None if "--serve" in options else tmp_path / "page.html")
    assert status == 2 and re.search(expected, errors) and errors.count("\n") == 1 and data is None


def test_a_page_that_cannot_be_written(looked, run_folder, call, tmp_path):
    status, _, errors, _ = looked("--src", "a", out=tmp_path / "nowhere" / "page.html")
    assert status == 2 and "nowhere is not a folder" in errors
    status, _, errors = call("microscope", "--model", tmp_path / "missing", "--src", "a")
    assert status == 2 and "missing" in errors


@pytest.fixture(scope="module")
def server():
    def make(src, tgt):
        return Microscope(small_model(), WORDS, WORDS, [(src, tgt)], checks=2, bugs="none")

    with Server(make("a b c", "d e"), make) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, method, path, body=None, token=True, **headers):
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    headers = {"X-Token": server.token} | headers if token else headers
    connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_page_comes_with_its_token(server):
    status, page = ask(server, "GET", server.address.partition(str(server.server_port))[2], token=False)
    assert status == 200 and json.loads(embedded(page))["serve"] == {"token": server.token}


@pytest.mark.parametrize("path, headers", [
    ("/", {}), ("/?token=wrong", {}), ("/number?q=h_dec&b=0&row=0&unit=0", {}),
    ("/number?q=h_dec&b=0&row=0&unit=0", {"X-Token": "wrong"}), ("/etc/passwd", {}), ("/../page.html", {}),
    ("/number?q=h_dec&b=0&row=0&unit=0", {"X-Token": "TOKEN", "Host": "evil.example"}),
    ("/?token=TOKEN", {"Host": "evil.example"})])
def test_a_wrong_token_or_host_gets_403_and_nothing_else(server, path, headers):
    headers = {name: value.replace("TOKEN", server.token) for name, value in headers.items()}
    assert ask(server, "GET", path.replace("TOKEN", server.token), token=False, **headers) == (403, "")


def test_posts_without_the_token_change_nothing(server):
    before = server.microscope
    assert ask(server, "POST", "/sentence", {"src": "a"}, token=False) == (403, "")
    assert ask(server, "POST", "/elsewhere", {}) == (403, "")
    assert server.microscope is before


@pytest.mark.parametrize("id, side", [("h_dec", "gradient"), ("zf_dec", "value"), ("score", "value"), ("o", "gradient"),
                                      ("c_dec", "gradient"), ("dkeys", ""), ("keys", "gradient")])
def test_any_number_is_computed_with_its_terms(server, id, side):
    if not side:
        assert ask(server, "GET", f"/number?q={id}&b=0&row=0&unit=0")[0] == 400
        return
    status, text = ask(server, "GET", f"/number?q={id}&b=0&row=1&unit=2&side={side}")
    answer = json.loads(text)
    assert status == 200
    assert sum(term["total"] for term in answer["terms"]) == pytest.approx(answer[side], rel=1e-10)
    for term in answer["terms"]:
        shown = [product for _, _, product in term["terms"]]
        assert sum(shown) + term["rest"][1] == pytest.approx(term["total"], rel=1e-9, abs=1e-15) and len(shown) <= 10
    if id in ("h_dec", "o", "c_dec", "keys"):
        assert answer["error"] < 1e-11 and answer["numeric"] == pytest.approx(answer["gradient"], rel=1e-9)


@pytest.mark.parametrize("query", ["q=h_dec", "q=h_dec&b=0&row=0&unit=4", "q=h_dec&b=1&row=0&unit=0", "q=nothing",
                                   "q=h_dec&b=0&row=-1&unit=0", "q=h_dec&b=0&row=0&unit=0&side=other", "b=%00"])
def test_a_number_that_does_not_exist(server, query):
    status, text = ask(server, "GET", f"/number?{query}")
    assert status == 400 and json.loads(text)["error"]


def test_a_moved_weight_changes_the_loss_and_not_the_model(server):
    trace = server.microscope.trace
    W = trace.model.params["combine.W"]
    before = W.copy()
    status, text = ask(server, "POST", "/weight", {"name": "combine.W", "index": [1, 2], "value": W[1, 2] + 1e-6})
    answer = json.loads(text)
    slope = (answer["loss"] - answer["before"]) / 1e-6
    assert status == 200 and slope == pytest.approx(trace.grads["combine.W"][1, 2], rel=1e-3)
    assert np.array_equal(W, before)


@pytest.mark.parametrize("path, body", [
    ("/weight", {"name": "combine.W", "index": [1], "value": 0}), ("/weight", {"name": "W", "index": [1], "value": 0}),
    ("/weight", {"name": "combine.W", "index": [1, 99], "value": 0}),
    ("/weight", '{"name": "combine.W", "index": [1, 2], "value": NaN}'), ("/weight", "no json"),
    ("/weight", "[1]"), ("/weight", "[" * 50_000),
    ("/sentence", {"src": ""}), ("/sentence", {"src": 3}), ("/sentence", {"src": "a " * 200}), ("/sentence", {})])
def test_bad_requests_get_a_sentence(server, path, body):
    status, text = ask(server, "POST", path, body)
    assert status == 400 and json.loads(text)["error"]


def test_a_request_that_is_too_large(server):
    status, text = ask(server, "POST", "/sentence", "x" * (LARGEST + 1))
    assert status == 413 and json.loads(text)["error"]
    assert ask(server, "POST", "/sentence", "{}", **{"Content-Length": "-5"})[0] == 413


def test_another_sentence(server):
    status, _ = ask(server, "POST", "/sentence", {"src": "g f", "tgt": ""})
    page = ask(server, "GET", f"/?token={server.token}", token=False)[1]
    assert status == 200 and json.loads(embedded(page))["sentences"][0]["src"] == ["g", "f"]


def test_a_port_in_use(server):
    with pytest.raises(MachineError, match=f"port {server.server_port} of 127.0.0.1 cannot be used.*--port 0"):
        Server(server.microscope, server.make, server.server_port)


def test_only_this_machine_can_ask(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    with socket.socket() as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", server.server_port))
