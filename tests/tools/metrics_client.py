"""The metrics of a node, read by Prometheus' own library. Says those that are not the engine's: {name: value}."""

import json
import os
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

with urlopen(os.environ["METRICS_URL"], timeout=60) as answer:
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4"), answer.headers
    families = list(text_string_to_metric_families(answer.read().decode()))
names = [family.name for family in families]
assert len(names) == len(set(names)), "a family is told twice"
assert all(family.type != "unknown" for family in families), "a family has no type"
samples = [sample for family in families for sample in family.samples]
told = {(sample.name, *sorted(sample.labels.items())) for sample in samples}
assert len(told) == len(samples), "a metric is told twice"
own = {sample.name: int(sample.value) for sample in samples if sample.name.startswith("blockhouse_")}
assert len(own) < len(samples), "the engine tells nothing"
print(json.dumps(own))
