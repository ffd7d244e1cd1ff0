"""What has to be said of figures: of an area, and why some miss what they should reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """What is known of a reason.

    Args:
        what: how the name of the figure begins.
        against: what stands in the name of what it is compared with; "" for anything.
        text: sentences.
    """

    what: str
    against: str
    text: str


NOTES = (
    Note(
        "as-of join, 1M rows x 20 columns: Evergreen",
        "Feast",
        "What is asked comes from a measurement in which Feast took 5.0 s; here its own row counts.",
    ),
    Note(
        "as-of join, memory: Evergreen, added by the join",
        "",
        "The rows of the view (1.4M x 20 float32, 112 MB) are held whole beside the matrix (80 MB), because a question"
        " may need any of them: that alone is more than twice the matrix. The questions and the keys of the rows come"
        " on top.",
    ),
    Note(
        "online read, 1 entity pair x 40",
        "Feast",
        "Most of it is one round trip by redis-py: the row of the bare MGET shows what a tenth of Feast's time leaves"
        " for anything more.",
    ),
    Note(
        "one instance, 1 connection, p50",
        "TorchServe",
        "Both go through TorchServe: HTTP in its JVM, its queue, a socket to the worker, and in the worker one read and"
        " one write of Redis and the model. What the gateway saves is the batching delay of 1 ms, what it adds is its"
        " own part, the stage total less the stage call and what the client waits beyond it: 0.3 to 0.4 ms. Half of the"
        " peer's time would need a call of TorchServe in 1 ms less twice that part, about 0.3 ms; features, model and"
        " log alone take 0.5 ms of it, and JVM and worker spend more than 0.5 ms of CPU on handing a call over.",
    ),
    Note(
        "one instance, 1 connection, p50",
        "FastAPI",
        "The peer reads Redis and runs the model in the process that the client talks to, and logs nothing: one hop"
        " where there are three (gateway, JVM, worker), and one round trip to Redis instead of two. The rows of threads"
        " that wait to be woken show it: seventeen, one after the other, nine of them in TorchServe's JVM.",
    ),
    Note(
        "one instance, 64 connections: Evergreen",
        "FastAPI",
        "The CPU rows of this area say where it goes: more than half is the gateway's, of which the protocol and the"
        " system calls are what a bare echo needs too; the rest is TorchServe's two hops, Redis and the log. The"
        " peer has one process where these are four, and no log.",
    ),
    Note(
        "one user x 50",
        "",
        "The CPU rows of this area say where it goes: workers and gateway about alike, then Redis. Of a worker's call"
        " the features take most, the log about half as long. TorchServe alone has the same workers and log; what the"
        " gateway adds (a key, checks, ids, one answer per client) it wins back by larger batches, and no more. The"
        " peer by hand logs nothing and has no hop to a host.",
    ),
    Note(
        "one instance, 64 connections: Evergreen",
        "bare ASGI echo",
        "The whole product has TorchServe, its workers and Redis on the same two cores; the row of the gateway alone"
        " shows what authentication, routing, checking, ids and metrics cost.",
    ),
    Note(
        "one instance, 64 connections: Evergreen",
        "Triton",
        "Of each of the other frameworks it is more than three times. Triton gathers calls in C++ as the gateway does"
        " in Python, has one hop where these are three, and logs nothing.",
    ),
    Note(
        "power, days correlated by 0.7 (0.03 sd), a weekly wave: 0.1 sd in 3 of 30 columns seen",
        "",
        "Who knows how the days vary sees hardly more of it in one window of these streams. Three weeks of it tell.",
    ),
    Note(
        "power, days correlated by 0.7 (0.03 sd), a weekly wave: those 3 named first",
        "",
        "One window cannot tell: the days' own ways, the rows of the week and those of the reference leave a shift"
        " of 0.1 sd 3.6 standard errors, and the furthest of 27 other columns is often further than the least of 3. The"
        " row of who knows how the days vary says how often the 3 are the furthest at all, sure of it or not. Three"
        " weeks of it tell.",
    ),
    Note(
        "power, taxi by week (2,310 rows): 0.1 sd in 3 columns, those named first",
        "",
        "By the 180 days before, the mean fare wanders by as much as it is moved here: who knows the weeks to come"
        " knows that it stays. Three weeks of it tell.",
    ),
    Note(
        "power, flights by week (6,507 rows): 0.1 sd in 3 columns, those named first",
        "",
        "In the first half of the year the distances flown wander by as much as they are moved here; that they stay"
        " where they are in the second half is known only afterwards. Three weeks of it tell.",
    ),
    Note(
        "overload, 2 times what can be answered: p99 until refused",
        "",
        "In some runs Redis writes its append-only file anew within these six seconds: it forks, and for about 0.1 s it"
        " and the copying of its pages have most of one core. Runs without it, watched one by one, took 7 to 16 ms.",
    ),
    Note(
        "overload, 10 times what can be answered: answered",
        "",
        "Nine calls are refused for one that is answered. To receive a call of 250 instances and to refuse it at its"
        " headers takes the gateway some 50 µs, of which half are system calls and the parser, on the one core that the"
        " models share.",
    ),
)

# shown above an area's table
REMARKS = {
    "judgement": (
        "Power on made streams is measured on seeds that the method was not chosen on. The real weeks are those it was"
        " chosen on, with other draws. That labels given the score wander no more than labels was found on the replayed"
        " history of taxis."
    ),
    "serving": (
        "48 features (20 float32 of a user and 20 of an ad in one Redis, 8 of the call), an ONNX network 48 → 64 → 32"
        " → 1; 10,000 users and ads; calls with 50 ads carry the user and the fields once, for everybody. One load"
        " generator (an epoll loop in Python) on the same two cores asks all of them over kept-alive connections and"
        " compares a sample of the answers with ONNX Runtime's; a server that waits for its turn is paused. All servers"
        " read the same Redis and run the same file, on one thread a process. Evergreen runs with an API key, routing,"
        " metrics, and a log of every prediction; the peers without any of it. TorchServe alone has the product's"
        " handler and so the log; its clients send the form that gateways do. FastAPI is by hand: a dictionary"
        " instead of a pydantic model, orjson, two workers. Of the settings tried for the frameworks the fastest with"
        " 64 connections was kept: BentoML with two workers and adaptive batching (without: slower), LitServe with"
        " batches of 64 and one worker (two workers and two API servers, a multiprocessing queue instead of ZeroMQ, no"
        " batching: slower or the same), Ray Serve with two replicas behind HAProxy (its own proxy: a tenth), MLServer"
        " in one process (two inference workers: half), MLflow with two workers (one: half), Feast with synchronous"
        " reads (asynchronous: slower), Triton by PyTriton with one model instance that gathers up to 64 calls (two:"
        " slower). Triton's Python backend carries a Python 3.11 older than this machine's, under which its shared"
        " memory does not start; tensors go as base64 between its processes. Overload, one, rank, echo"
        " and stages were measured with the kernel's"
        " autogroups on, so that each server has its share of the processor, as under systemd or in containers; without"
        " them the gateway gets one of five shares of the core, and calls wait up to 0.9 s to be refused at ten times."
    ),
}
