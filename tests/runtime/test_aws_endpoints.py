"""
Endpoints agree with the SDK's own rule sets, Region by Region and variant by variant.
"""

from __future__ import annotations

import functools
import itertools

import pytest
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader

from agent.runtime.aws_endpoints import Endpoint, endpoint_for, request_url
from agent.runtime.http_connect import place_of

REGIONS = [
    "us-east-1",
    "eu-central-1",
    "ap-southeast-7",
    "il-central-1",
    "cn-north-1",
    "cn-northwest-1",
    "us-gov-west-1",
    "us-gov-east-1",
    "us-iso-east-1",
    "us-isob-east-1",
    "us-isof-south-1",
    "eu-isoe-west-1",
    "eusc-de-east-1",
]
VARIANTS = [
    {"fips": fips, "dual_stack": dual} for fips, dual in itertools.product([False, True], repeat=2)
]


@functools.cache
def provider(service: str) -> EndpointProvider:
    loader = Loader()
    return EndpointProvider(
        loader.load_service_model(service, "endpoint-rule-set-1"), loader.load_data("partitions")
    )


@pytest.mark.parametrize("service", ["logs", "s3", "sts"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("region", REGIONS)
def test_hosts_are_those_of_the_sdk(service, region, variant):
    parameters = {
        "Region": region,
        "UseFIPS": variant["fips"],
        "UseDualStack": variant["dual_stack"],
    }
    try:
        expected = provider(service).resolve_endpoint(**parameters).url
    except EndpointProviderError:
        # A partition without FIPS; there is nothing to compare with.
        assert variant["fips"] or variant["dual_stack"]
        return
    assert endpoint_for(service, region, **variant).url == expected


def test_a_bucket_moves_into_the_host_as_the_sdk_does_it():
    expected = provider("s3").resolve_endpoint(Region="eu-central-1", Bucket="my-logs").url
    endpoint = endpoint_for("s3", "eu-central-1")
    assert request_url(endpoint, "s3", "/my-logs/a=1/b c") == f"{expected}/a%3D1/b%20c"


def test_a_bucket_with_dots_and_one_of_a_custom_endpoint_stay_in_the_path():
    endpoint = endpoint_for("s3", "eu-central-1")
    assert (
        request_url(endpoint, "s3", "/my.logs/k")
        == "https://s3.eu-central-1.amazonaws.com/my.logs/k"
    )
    custom = endpoint_for("s3", "eu-central-1", endpoint_url="http://127.0.0.1:9000/")
    assert request_url(custom, "s3", "/my-logs/k", {"uploads": ""}) == (
        "http://127.0.0.1:9000/my-logs/k?uploads="
    )


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.b/", "a.b"),
        ("https://a.b:443/", "a.b"),
        ("http://a.b:443/", "a.b:443"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("http://[::1]:5000/x", "[::1]:5000"),
    ],
)
def test_the_host_header_has_a_port_where_it_must(url, host):
    assert place_of(url).header == host


def test_a_path_is_absolute():
    with pytest.raises(AssertionError):
        request_url(Endpoint("http://a", custom=True), "s3", "k")
