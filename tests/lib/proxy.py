"""A TCP proxy on the loopback interface that can misbehave: cut connections, hold one direction, swallow the reply to a chosen request."""
import socket
import threading

from . import process


class Proxy:
    """Forwards a free port to `target_port`. Thread-safe. Faults:
    cut()               closes every connection; new ones are refused until restore()
    hold("down"/"up")   bytes of that direction wait (up: client → server) until restore()
    lose_reply(bytes)   from the first client packet that contains these bytes on: the server gets it, the client hears nothing any more
                        (`lost` is set then); the connection stays open and dumb until cut() or restore()
    hold_request(bytes) the first client packet that contains these bytes, and all that follow on its connection, wait in the network
                        (`held` is set then); restore() delivers them even if the client is gone by then
    """

    def __init__(self, target_port):
        self.target_port = target_port
        self.port = process.free_port()
        self.lost = threading.Event()
        self.held = threading.Event()
        self._lock = threading.Lock()
        self._pairs = []
        self._refuse = False
        self._held = set()
        self._pattern = None
        self._hold_pattern = None
        self._changed = threading.Condition(self._lock)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                refuse = self._refuse
            if refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = {"client": client, "server": server, "dumb": False, "held": False}
            with self._lock:
                self._pairs.append(pair)
            threading.Thread(target=self._pump, args=(pair, "up"), daemon=True).start()
            threading.Thread(target=self._pump, args=(pair, "down"), daemon=True).start()

    def _pump(self, pair, direction):
        source, sink = (pair["client"], pair["server"]) if direction == "up" else (pair["server"], pair["client"])
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                with self._changed:
                    if direction == "up" and self._hold_pattern and self._hold_pattern in data:
                        pair["held"] = True
                        self._hold_pattern = None
                        self.held.set()
                    self._changed.wait_for(lambda: self._closed or (direction not in self._held and not (direction == "up" and pair["held"])))
                    if direction == "up" and self._pattern and self._pattern in data:
                        # Before the server sees the request: its reply must find the connection dumb already.
                        pair["dumb"] = True
                        self._pattern = None
                        self.lost.set()
                    swallow = direction == "down" and pair["dumb"]
                if not swallow:
                    sink.sendall(data)
        except OSError:
            pass
        # While a request is held, the end of the client must not take the server's end along: the request arrives late.
        if direction == "down" and pair["held"]:
            return
        if not pair["dumb"]:
            self._close(pair)

    def _close(self, pair):
        for end in (pair["client"], pair["server"]):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)

    def cut(self):
        with self._changed:
            self._refuse = True
            self._held.clear()
            self._changed.notify_all()
            pairs = list(self._pairs)
        for pair in pairs:
            self._close(pair)

    def hold(self, direction):
        with self._lock:
            self._held.add(direction)

    def lose_reply(self, pattern):
        with self._lock:
            self._pattern = pattern
            self.lost.clear()

    def hold_request(self, pattern):
        with self._lock:
            self._hold_pattern = pattern
            self.held.clear()

    def restore(self):
        with self._changed:
            for pair in self._pairs:
                pair["held"] = False
            self._hold_pattern = None
            self._refuse = False
            self._held.clear()
            self._pattern = None
            dumb = [pair for pair in self._pairs if pair["dumb"]]
            self._changed.notify_all()
        for pair in dumb:
            self._close(pair)

    def close(self):
        self._closed = True
        self._listener.close()
        self.cut()
