"""Who may talk to whom: the policies, applied as Kubernetes would, give exactly the ways that the system has."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from local.environment import SERVICES, STORING
from tests.deploy.rendering import ROOT, Manifests, Object, matches

HTTP, HEALTH, POSTGRES, AMQP, MANAGEMENT, HTTPS = 8000, 8001, 5432, 5672, 15672, 443
PORTS = (HTTP, HEALTH, POSTGRES, AMQP, MANAGEMENT)


def labels_of(manifests: Manifests) -> dict[str, dict[str, str]]:
    """Give the labels of every pod; those that an operator makes have what its object says."""
    pods = {name: pod["metadata"]["labels"] for name, pod in manifests.pods.items()}
    if manifests.overlay == "cluster":
        pods["postgres"] = manifests.named("Cluster", "postgres")["spec"]["inheritedMetadata"]["labels"]
        pods["rabbitmq"] = {"app.kubernetes.io/name": "rabbitmq", "app.kubernetes.io/component": "rabbitmq"}
    return pods


def rules(manifests: Manifests, labels: dict[str, str], direction: str) -> Iterator[Object]:
    """Find the rules that are in force for a pod in one direction; without any policy all would be allowed."""
    policies = [
        item["spec"]
        for item in manifests.of_kind("NetworkPolicy")
        if matches(item["spec"]["podSelector"], labels) and direction.capitalize() in item["spec"]["policyTypes"]
    ]
    assert policies, "nothing is forbidden to this pod"
    for policy in policies:
        yield from policy.get(direction, [])


def takes_port(rule: Object, port: int) -> bool:
    ranges = [(entry["port"], entry.get("endPort", entry["port"])) for entry in rule.get("ports", [])]
    return not ranges or any(first <= port <= last for first, last in ranges)


def allowed(manifests: Manifests, direction: str) -> set[tuple[str, str, int]]:
    """Give the ways between pods of ours that the policies of one direction leave open."""
    pods = labels_of(manifests)
    key = {"egress": "to", "ingress": "from"}[direction]
    found = set()
    for subject, labels in pods.items():
        for rule in rules(manifests, labels, direction):
            peers = [peer for peer in rule.get(key, []) if "namespaceSelector" not in peer and "ipBlock" not in peer]
            for other, its in pods.items():
                if key not in rule or any(matches(peer["podSelector"], its) for peer in peers):
                    pair = (subject, other) if direction == "egress" else (other, subject)
                    found |= {(*pair, port) for port in PORTS if takes_port(rule, port)}
    return found


def test_pods_reach_what_they_need_and_nothing_else(manifests: Manifests) -> None:
    apis = [f"{service}-api" for service in STORING]
    workers = [f"{service}-worker" for service in STORING]
    migrations = [f"{service}-migrate" for service in STORING]
    wanted = {("gateway", api, HTTP) for api in apis}
    # auth's own api checks tokens with the same keys.
    wanted |= {(api, "auth-api", HTTP) for api in apis}
    wanted |= {(pod, "postgres", POSTGRES) for pod in (*apis, *workers, *migrations, "backup", "restore")}
    # An api opens the broker only where it shows its queues to admins.
    at_queues = [f"{name}-api" for name in STORING if "amqp_url" in (ROOT / "services" / name / "app.py").read_text()]
    wanted |= {(pod, "rabbitmq", AMQP) for pod in (*at_queues, *workers, "gateway", "topology")}
    wanted.add(("broker-users", "rabbitmq", MANAGEMENT))
    if manifests.overlay == "cluster":
        wanted |= {("postgres", "postgres", POSTGRES), ("postgres", "postgres", HTTP)}  # its instances, each other
    # Each side by itself: what one forbids and the other allows is closed, and wrong all the same.
    assert allowed(manifests, "egress") == wanted
    assert allowed(manifests, "ingress") == wanted


def reachable_from(manifests: Manifests, namespace: str) -> set[tuple[str, int]]:
    """Find the pods and ports that another namespace reaches."""
    found = set()
    for name, labels in labels_of(manifests).items():
        for rule in rules(manifests, labels, "ingress"):
            assert rule.get("from"), f"{name} is open to everybody"
            spaces = [peer["namespaceSelector"] for peer in rule["from"] if "namespaceSelector" in peer]
            if any(matches(space, {"kubernetes.io/metadata.name": namespace}) for space in spaces):
                found |= {(name, port) for port in PORTS if takes_port(rule, port)}
    return found


def test_from_outside_only_the_gateway_is_reached(manifests: Manifests) -> None:
    assert reachable_from(manifests, "ingress-nginx") == {("gateway", HTTP)}
    assert reachable_from(manifests, "default") == set()
    (ingress,) = manifests.of_kind("Ingress")
    (rule,) = ingress["spec"]["rules"]
    assert [path["backend"]["service"]["name"] for path in rule["http"]["paths"]] == ["gateway"]
    assert all(service["spec"].get("type", "ClusterIP") == "ClusterIP" for service in manifests.of_kind("Service"))


def test_prometheus_reaches_the_metrics_of_every_role_and_no_server(manifests: Manifests) -> None:
    assert {name for name, _ in reachable_from(manifests, "monitoring")} == set(manifests.roles)


def calls_outside(manifests: Manifests, address: str, port: int) -> set[str]:
    """Find the pods that reach an address outside the cluster."""
    found = set()
    for name, labels in labels_of(manifests).items():
        for rule in rules(manifests, labels, "egress"):
            blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
            is_in = any(
                ip_address(address) in ip_network(block["cidr"])
                and not any(ip_address(address) in ip_network(part) for part in block.get("except", []))
                for block in blocks
            )
            if takes_port(rule, port) and ("to" not in rule or is_in):
                found.add(name)
    return found


def test_only_who_has_business_outside_gets_there(single_node: Manifests) -> None:
    roles = {f"{service}-{role}" for service in ("referrals", "invitations") for role in ("api", "worker")}
    assert calls_outside(single_node, "203.0.113.7", HTTPS) == roles
    assert calls_outside(single_node, "203.0.113.7", 465) == calls_outside(single_node, "203.0.113.7", 587)
    assert calls_outside(single_node, "203.0.113.7", 465) == {"auth-worker"}
    # The address at which clouds give their credentials to whoever asks.
    assert calls_outside(single_node, "169.254.169.254", 80) == set()
    assert calls_outside(single_node, "169.254.169.254", HTTPS) == set()
    assert calls_outside(single_node, "10.0.0.1", HTTPS) == set()


def test_every_service_is_in_the_matrix(manifests: Manifests) -> None:
    assert {
        labels["app.kubernetes.io/name"]
        for labels in labels_of(manifests).values()
        if "app.kubernetes.io/name" in labels
    } >= set(SERVICES)
