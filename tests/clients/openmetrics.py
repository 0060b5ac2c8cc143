"""`cmctl stats --openmetrics`, read by the parsers of Prometheus's own Python client: of OpenMetrics, and of the text
format that node_exporter's textfile collector takes."""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

text = sys.stdin.read()
assert text.endswith("# EOF\n")
families = {family.name: family for family in read_openmetrics(text)}
for family in families.values():
    assert family.documentation, family.name
    assert family.type in ("gauge", "counter"), family.name
    assert family.samples, family.name
    for unit in ("seconds", "bytes"):
        assert family.unit == unit or not family.name.endswith("_" + unit), family.name

handshakes = families["cmssh_handshakes"]
assert handshakes.type == "counter" and handshakes.samples[0].name == "cmssh_handshakes_total"
assert handshakes.samples[0].value >= 1
states = families["cmssh_connection_state"].samples
for server in {sample.labels["server"] for sample in states}:
    assert sum(sample.value for sample in states if sample.labels["server"] == server) == 1
assert any(sample.labels["state"] == "up" and sample.value == 1 for sample in states)
assert {sample.labels["of"] for sample in families["cmssh_connection_rtt_seconds"].samples} == {"last", "p50", "p95"}


def samples(families):
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


assert samples(read_text(text)) == samples(families.values()), "both formats say the same"
