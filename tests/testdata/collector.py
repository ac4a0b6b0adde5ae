"""A collector of traces: takes OTLP over HTTP, decodes it with OpenTelemetry's own messages, prints each span as a line of JSON.

usage: collector.py PORT [CERTIFICATE KEY CLIENT_CA]     PORT 0: any; with the files, under mutual TLS
"""

import http.server
import json
import ssl
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def texts(attributes):
    return {attribute.key: attribute.value.string_value for attribute in attributes}


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
        self.send_response(200 if right else 400)
        self.end_headers()
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    line = {
                        "resource": texts(of_resource.resource.attributes),
                        "name": span.name,
                        "trace": span.trace_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "kind": span.kind,
                        "nanos": span.end_time_unix_nano - span.start_time_unix_nano,
                        "error": span.status.code == 2,
                        **texts(span.attributes),
                    }
                    print(json.dumps(line), flush=True)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Collector)
if len(sys.argv) > 2:
    certificate, key, client_ca = sys.argv[2:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    # A handshake that fails is an error of accept, which the server passes over.
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
sys.exit(0)
