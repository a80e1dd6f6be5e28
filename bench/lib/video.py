# SPDX-License-Identifier: LGPL-2.1-or-later
"""A log of video on demand, replayed against the guest's nginx: each viewer asks for a piece of its video every half second,
whatever became of the piece before, and a piece that is not there when the next is due was too late."""
import concurrent.futures
import dataclasses
import http.client
import random
import time

PIECE_BYTES, PIECE_S = 64 << 10, 0.5
FILE_BYTES = 16 << 20  # data.txt, tests/guests/debian/configure
VIEWERS_A_SECOND, WATCHED_S = 2.0, 6.0
VIDEOS = 16


@dataclasses.dataclass
class Piece:
    due_s: float
    offset: int
    in_time: bool = False


def log(seconds, seed=1):
    """Viewers come at random; some videos are watched by many, most by few."""
    draw = random.Random(seed)
    pieces, arrival = [], -WATCHED_S
    while (arrival := arrival + draw.expovariate(VIEWERS_A_SECOND)) < seconds:
        video = draw.choices(range(VIDEOS), [1 / (i + 1) for i in range(VIDEOS)])[0]
        for number in range(1 + int(draw.expovariate(1 / WATCHED_S) / PIECE_S)):
            due = arrival + number * PIECE_S
            if 0 <= due < seconds:
                pieces.append(Piece(due, (video * (FILE_BYTES // VIDEOS) + number * PIECE_BYTES) % (FILE_BYTES - PIECE_BYTES)))
    return sorted(pieces, key=lambda piece: piece.due_s)


def fetch(port, piece, start):
    """Fills in whether it came in time."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PIECE_S)
        connection.request("GET", "/data.txt", headers={"Range": f"bytes={piece.offset}-{piece.offset + PIECE_BYTES - 1}"})
        whole = len(connection.getresponse().read()) == PIECE_BYTES
        connection.close()
        piece.in_time = whole and time.monotonic() - start <= piece.due_s + PIECE_S
    except (OSError, http.client.HTTPException):
        piece.in_time = False


def replay(port, seconds):
    """The pieces, after all of them have come or are too late."""
    pieces = log(seconds)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(64) as viewers:
        for piece in pieces:
            time.sleep(max(0, start + piece.due_s - time.monotonic()))
            viewers.submit(fetch, port, piece, start)
    return pieces


def in_time(pieces):
    """Percent of all."""
    return 100 * sum(piece.in_time for piece in pieces) / len(pieces)


def by_second(pieces, seconds):
    """Share in percent that came in time, of the pieces that were due in each second."""
    shares = []
    for second in range(int(seconds)):
        due = [piece for piece in pieces if second <= piece.due_s < second + 1]
        if due:
            shares.append(100 * sum(piece.in_time for piece in due) / len(due))
    return shares
