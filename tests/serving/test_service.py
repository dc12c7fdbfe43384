"""The queue and its workers, with workers that do what a test says."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from served_models import OLD, Scripted, answer, client_of

from segment.errors import UserError
from segment.serving.access import read_tokens
from segment.serving.jobs import CANCELLED
from segment.serving.served import named_models

MODELS = {"made": ""}


def post(client, content=b"\x1f\x8bscan", path="/jobs"):
    return client.post(path, content=content)


def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_many_clients_get_their_own_answers():
    with client_of(Scripted(answer), MODELS, queue=100) as client, ThreadPoolExecutor(16) as pool:
        sent = [b"\x1f\x8b" + str(number).encode() for number in range(100)]
        received = list(pool.map(lambda content: post(client, content, "/predict").content, sent))
    assert received == sent


def test_a_full_queue_is_told_and_taken_up_again():
    gate = threading.Event()

    def act(link, message):
        gate.wait()
        answer(link, message)

    with client_of(Scripted(act), MODELS, queue=2) as client:
        jobs = [post(client) for _ in range(5)]  # three with the worker, two that wait
        assert [job.status_code for job in jobs] == [202] * 5
        refused = post(client, path="/predict")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        gate.set()
        until(lambda: all(client.get(f"/jobs/{job.json()['id']}").json()["state"] == "done" for job in jobs))
        assert post(client, path="/predict").status_code == 200


def test_a_cancelled_job_leaves_the_queue_and_its_worker():
    told = []

    def act(link, message):
        told.append(message["event"])
        if message["event"] == "predict":
            link.send("predicting", id=message["id"])
            link.send("progress", id=message["id"], share=0.5)
        else:
            link.send("cancelled", id=message["id"])

    with client_of(Scripted(act), MODELS) as client:
        id = post(client).json()["id"]
        until(lambda: client.get(f"/jobs/{id}").json()["progress"] == 0.5)
        assert client.delete(f"/jobs/{id}").json()["state"] == CANCELLED
        until(lambda: told == ["predict", "cancel"] and not client.service.running)
        assert not list(client.service.folder.iterdir())


def test_a_scan_that_takes_too_long_is_told_and_its_worker_replaced(monkeypatch):
    monkeypatch.setattr("segment.serving.service.PATIENCE", 0.1)
    monkeypatch.setattr("segment.serving.service.TICK", 0.02)
    hung = []

    def act(link, message):
        if message["event"] == "predict" and not hung:
            hung.append(message["id"])
            link.send("predicting", id=message["id"])
        elif message.get("id") not in hung:
            answer(link, message)

    worker = Scripted(act)
    with client_of(worker, MODELS, timeout=0.2) as client:
        slow = post(client, path="/predict")
        assert slow.status_code == 504
        assert "longer than 0.2 s" in slow.json()["detail"]
        until(lambda: worker.started == 2)
        assert post(client, path="/predict").status_code == 200


@pytest.mark.parametrize(("deaths", "status"), [(1, 200), (2, 503)])
def test_scans_of_a_worker_that_ends_are_predicted_anew_or_told(deaths, status):
    died = []

    def act(link, message):
        if len(died) < deaths:
            died.append(message["id"])
            raise OSError
        answer(link, message)

    def work(connection):
        try:
            worker(connection)
        finally:
            connection.close()

    worker = Scripted(act)
    with client_of(work, MODELS) as client:
        found = post(client, path="/predict")
        assert found.status_code == status
        assert len(set(died)) == 1
        assert post(client, b"\x1f\x8bnext", "/predict").content == b"\x1f\x8bnext"
        assert "segment_worker_restarts 1.0" in client.get("/metrics").text or deaths == 2


def test_stopping_answers_what_was_begun_and_refuses_the_rest():
    gate = threading.Event()

    def act(link, message):
        gate.wait()
        answer(link, message)

    with client_of(Scripted(act), MODELS) as client, ThreadPoolExecutor(2) as pool:
        begun = pool.submit(post, client, b"\x1f\x8bscan", "/predict")
        until(lambda: client.service.running)
        client.portal.start_task_soon(client.service.drain, 10)
        until(lambda: client.get("/readyz").status_code == 503)
        assert post(client).status_code == 503
        assert client.get("/healthz").status_code == 200
        gate.set()
        assert begun.result().content == b"\x1f\x8bscan"


def test_jobs_that_nobody_waits_for_outlast_the_server(tmp_path):
    gate, seen, killed = threading.Event(), [], threading.Event()

    def act(link, message):
        seen.append(message["folder"][-32:])
        gate.wait()
        if killed.is_set():
            raise OSError
        answer(link, message)

    def state(client, id):
        return client.get(f"/jobs/{id}").json()

    with client_of(Scripted(answer), MODELS, lasting=tmp_path) as client:
        done, gone = (post(client, b"\x1f\x8bdone", "/jobs?name=my scan.nii.gz").json()["id"] for _ in range(2))
        until(lambda: state(client, done)["state"] == state(client, gone)["state"] == "done")
        client.delete(f"/jobs/{gone}")
    with client_of(Scripted(act), MODELS, lasting=tmp_path) as client, ThreadPoolExecutor(2) as pool:
        ids = [post(client, b"\x1f\x8b" + str(number).encode()).json()["id"] for number in range(5)]
        waits = pool.submit(post, client, b"\x1f\x8bwaits", "/predict")
        until(lambda: seen and client.service.waiting == 3)
        events = pool.submit(lambda: client.get(f"/jobs/{ids[4]}/events").text)
        time.sleep(0.05)
        client.portal.call(client.service.drain, 0.05)
        assert "predicted when it is started again" in events.result()
        assert waits.result().status_code == 503
        assert "has stopped" in waits.result().json()["detail"]
        killed.set()
        gate.set()
    assert {place.name for place in tmp_path.iterdir()} == {done, *ids}
    (tmp_path / "left").mkdir()  # an upload of a server that was killed
    (tmp_path / ids[0] / "mask-scan.nii.gz").write_bytes(b"half")
    (tmp_path / ids[1] / "job.json").write_text("{")
    killed.clear()
    with client_of(Scripted(act), MODELS, lasting=tmp_path, keep=60) as client:
        left = [ids[0], *ids[2:]]
        until(lambda: all(state(client, id)["state"] == "done" for id in left))
        assert seen[-len(left) :] == left  # in the order in which they came
        answers = [client.get(f"/jobs/{id}/mask") for id in [*left, done]]
        assert [one.content[2:] for one in answers] == [b"0", b"2", b"3", b"4", b"done"]
        assert answers[-1].headers["content-disposition"].endswith('"my-scan-mask.nii.gz"')
        assert client.get(f"/jobs/{ids[1]}").status_code == client.get(f"/jobs/{gone}").status_code == 404
        for id in [*left, done]:
            client.delete(f"/jobs/{id}")
    assert not tmp_path.exists()  # since it is empty


@pytest.mark.parametrize(
    ("change", "reason"), [({"starts": 5}, "ended 5 times"), ({"model": "x"}, "without the model")]
)
def test_a_job_that_cannot_be_taken_up_is_told(change, reason, tmp_path):
    with client_of(Scripted(lambda link, message: None), MODELS, lasting=tmp_path) as client:
        id = post(client).json()["id"]
        until(lambda: client.service.running)
        client.portal.call(client.service.drain, 0)
    record = tmp_path / id / "job.json"
    told = json.loads(record.read_text())
    assert told["starts"] == 0  # of servers that stopped in order none counts
    record.write_text(json.dumps(told | change))
    with client_of(Scripted(answer), MODELS, lasting=tmp_path) as client:
        found = client.get(f"/jobs/{id}").json()
        assert (found["state"], found["status"]) == ("failed", 503)
        assert reason in found["detail"]


def test_a_model_that_cannot_be_loaded_is_told():
    def work(connection):
        connection.send_bytes(json.dumps({"event": "unusable", "detail": "no such"}).encode())

    with client_of(work, MODELS) as client:
        until(lambda: client.service.unusable == "no such")
        assert client.get("/readyz").status_code == 503


def test_models_are_named_after_their_runs_or_as_asked():
    first, second = OLD / "seed0", OLD / "seed1"
    assert named_models(str(first / "model")) == {"seed0": str(first / "model")}
    assert named_models(f"[{first},other={second}]") == {"seed0": str(first), "other": str(second)}
    with pytest.raises(UserError, match="would both be served as seed0"):
        named_models(f"[{first},{first}]")
    with pytest.raises(UserError, match="names no model"):
        named_models("[]")


def test_tokens_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    assert read_tokens(None) == ()
    monkeypatch.setenv("SEGMENT_TOKEN", "0123456789abcdef")
    assert read_tokens(None) == ("0123456789abcdef",)
    file = tmp_path / "tokens"
    for content, reason in (("", "holds no token"), ("short\n", "at least 16 letters")):
        file.write_text(content)
        with pytest.raises(UserError, match=reason):
            read_tokens(file)
    file.write_text("# ours\nabcdefghijklmnop\n\nqrstuvwxyzabcdef\n")
    assert read_tokens(file) == ("abcdefghijklmnop", "qrstuvwxyzabcdef")
    with pytest.raises(UserError, match="cannot be read"):
        read_tokens(tmp_path / "missing")
