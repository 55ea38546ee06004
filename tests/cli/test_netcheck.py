"""The text form of a netcheck report."""

from __future__ import annotations

from tailbox.cli.netcheck import report_lines

REPORT = {
    "Now": "2026-01-02T03:04:05Z",
    "UDP": True,
    "IPv4": True,
    "IPv6": False,
    "OSHasIPv6": True,
    "GlobalV4": "203.0.113.7:41641",
    "GlobalV6": "",
    "MappingVariesByDestIP": False,
    "UPnP": None,
    "PMP": None,
    "PCP": None,
    "PreferredDERP": 900,
    "RegionLatency": {"901": 20_000_000, "900": 12_345_678},
}
REGIONS = {
    "900": {"RegionCode": "fra", "RegionName": "Frankfurt"},
    "901": {"RegionCode": "nyc", "RegionName": "New York"},
}


def test_layout_is_upstreams() -> None:
    assert report_lines(REPORT, REGIONS) == [
        "",
        "Report:",
        "\t* Time: 2026-01-02T03:04:05Z",
        "\t* UDP: true",
        "\t* IPv4: yes, 203.0.113.7:41641",
        "\t* IPv6: no, but OS has support",
        "\t* MappingVariesByDestIP: false",
        "\t* PortMapping: not checked",
        "\t* Nearest DERP: Frankfurt",
        "\t* DERP latency:",
        "\t\t- fra: 12.3ms  (Frankfurt)",
        "\t\t- nyc: 20ms    (New York)",
    ]


def test_without_answers() -> None:
    blank = REPORT | {"UDP": False, "IPv4": False, "GlobalV4": "", "PreferredDERP": 0, "RegionLatency": None}
    lines = report_lines(blank | {"PMP": True, "UPnP": False, "PCP": False}, {})
    assert "\t* IPv4: no" in lines
    assert "\t* PortMapping: NAT-PMP" in lines
    assert lines[-1] == "\t* Nearest DERP: unknown (no response to latency probes)"
