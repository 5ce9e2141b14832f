"""An OpenAI endpoint in a thread, which answers as it is told and counts what it is asked."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, finish_reason="stop", tokens=5):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    return 200, {"choices": [choice], "usage": usage}


def failure(status, message="no"):
    return status, {"error": {"message": message, "type": "t", "param": None, "code": None}}


class Endpoint:
    """reply: body -> (status, tree). bodies: what was asked; most: at once; port 0: a free one."""

    def __init__(self, reply, port=0, model="toy"):
        self.bodies, self.paths, self.most, self.now = [], [], 0, 0
        self.lock = threading.Lock()
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send({"status": "ready", "instance_id": "1", "data": [{"id": model}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with own.lock:
                    own.bodies.append(body)
                    own.paths.append(self.path)
                    own.now += 1
                    own.most = max(own.most, own.now)
                status, tree = reply(body)
                with own.lock:
                    own.now -= 1
                self.send(tree, status)

            def send(self, tree, status=200):
                data = json.dumps(tree).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words):
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def questions(self):
        return [(b["messages"][0]["content"], b["seed"]) for b in self.bodies]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def endpoint(reply, port=0, model="toy"):
    own = Endpoint(reply, port, model)
    try:
        yield own
    finally:
        own.close()
