"""A gRPC port: tokens, limits, what nobody serves, how it starts and stops."""

import asyncio
import socket
import subprocess
from functools import partial

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_client import INFERENCE, Stub
from grpc_server import configured, refused, run, serving

from marserve.errors import PortInUse, TokenMissing, TokenRefused
from marserve.events import Bus
from marserve.protocols.pb.inference_pb2 import PredictionsRequest
from marserve.protocols.pb.management_pb2 import ListModelsRequest
from marserve.request import Answer
from marserve.servers.grpc import GrpcPort, Limits
from marserve.servers.grpc_calls import Calls
from marserve.servers.reservation import reserved

WORDS = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
HEALTH = "/grpc.health.v1.Health/Check"
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def authorize(authorization, as_400=False):
    if authorization is None:
        raise TokenMissing(WORDS, as_400)
    if authorization != "Bearer good":
        raise TokenRefused(WORDS, as_400)


# --- tokens ---


@pytest.mark.parametrize(
    ("as_400", "metadata", "code"),
    [
        (False, (), grpc.StatusCode.UNAUTHENTICATED),
        (True, (), grpc.StatusCode.PERMISSION_DENIED),
        (False, (("authorization", "Bearer bad"),), grpc.StatusCode.PERMISSION_DENIED),
        (True, (("authorization", "Bearer bad"),), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
@pytest.mark.parametrize("kind", ["inference", "management"])
def test_a_call_without_the_right_token_is_refused_before_anything_else(
    kind, as_400, metadata, code
):
    async def main():
        async with serving(kind, authorize=partial(authorize, as_400=as_400)) as served:
            if kind == "inference":
                call = served.inference.Ping(Empty(), metadata=metadata)
            else:
                call = served.management.ListModels(ListModelsRequest(), metadata=metadata)
            assert await refused(call) == (code, WORDS)
            nobodys = served.channel.unary_unary("/a.B/C")(b"", metadata=metadata)
            assert (await refused(nobodys))[0] is code
            assert served.plane.calls == []

    run(main())


def test_a_call_with_the_right_token_is_served():
    async def main():
        async with serving(authorize=authorize) as served:
            metadata = (("authorization", "Bearer good"),)
            await served.inference.Ping(Empty(), metadata=metadata)
            call = served.inference.StreamPredictions2(
                [PredictionsRequest(model_name="echo", sequence_id="s")], metadata=metadata
            )
            assert [message.sequence_id async for message in call] == ["s"]

    run(main())


# --- what nobody serves, and what is no message ---


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_a_method_that_nobody_serves_is_unimplemented_and_told_to_the_bus(kind):
    async def main():
        async with serving() as served:
            name = "org.pytorch.serve.grpc.openinference.GRPCInferenceService/ServerLive"
            call = getattr(served.channel, kind)("/" + name)(
                b"" if kind.startswith("unary") else [b""]
            )
            if kind.endswith("stream"):
                call = call.read()
            assert await refused(call) == (
                grpc.StatusCode.UNIMPLEMENTED,
                f"Method not found: {name}",
            )
            assert await served.codes(1) == [12]
            assert served.calls[0].origin.path == name

    run(main())


def test_bytes_that_are_no_message_are_the_clients_mistake():
    async def main():
        async with serving() as served:
            for garbage in (b"\xff\xff\xff", b"\x0a\xff", b"\x1b" * 10_000, b"\x0a\x02\xff\xfe"):
                code, description = await refused(served.channel.unary_unary(PREDICTIONS)(garbage))
                assert code is grpc.StatusCode.INVALID_ARGUMENT
                assert "org.pytorch.serve.grpc.inference.PredictionsRequest" in description
            await served.inference.Ping(Empty())

    run(main())


# --- limits ---


@pytest.mark.parametrize("method", ["Predictions", "StreamPredictions", "StreamPredictions2"])
def test_a_message_over_max_request_size_is_refused_with_the_reason(method):
    async def main():
        config = configured(max_request_size=1000)
        async with serving(config=config) as served:
            big = PredictionsRequest(model_name="echo", sequence_id="s", input={"a": bytes(1001)})
            call = getattr(served.inference, method)([big] if method.endswith("2") else big)
            code, _ = await refused(call if method == "Predictions" else call.read())
            assert code is EXHAUSTED
            assert served.data.asked == []
            small = PredictionsRequest(model_name="echo", input={"a": bytes(900)})
            assert len((await served.inference.Predictions(small)).prediction) == 900

    run(main())


def test_a_message_that_unpacks_to_more_than_max_request_size_is_refused_too():
    async def main():
        async with serving(config=configured(max_request_size=100_000)) as served:
            bomb = PredictionsRequest(model_name="echo", input={"a": bytes(20_000_000)})
            code, _ = await refused(
                served.inference.Predictions(bomb, compression=grpc.Compression.Gzip)
            )
            assert code is EXHAUSTED
            assert served.data.asked == []

    run(main())


def test_compressed_requests_are_understood():
    async def main():
        async with serving() as served:
            asked = PredictionsRequest(model_name="echo", input={"a": b"x" * 10_000})
            call = served.inference.Predictions(asked, compression=grpc.Compression.Gzip)
            assert (await call).prediction == b"x" * 10_000

    run(main())


def test_a_large_answer_gets_through_to_a_client_that_takes_it():
    async def main():
        async with serving() as served:
            served.data.models["big"] = lambda _: Answer(bytes(6_553_500))
            options = [("grpc.max_receive_message_length", -1)]
            async with grpc.aio.insecure_channel(served.port.address, options=options) as channel:
                asked = PredictionsRequest(model_name="big")
                answer = await Stub(channel, INFERENCE).Predictions(asked)
                assert len(answer.prediction) == 6_553_500

    run(main())


def test_metadata_over_its_limit_harms_nobody():
    async def main():
        async with serving() as served:
            metadata = (("x", "y" * 50_000),)
            with pytest.raises(grpc.aio.AioRpcError):
                await served.inference.Ping(Empty(), metadata=metadata)
            await served.inference.Ping(Empty())

    run(main())


def test_connections_are_asked_to_reconnect_at_their_maximum_age():
    async def main():
        config = configured(
            grpc_inference_max_connection_age_ms=200,
            grpc_inference_max_connection_age_grace_ms=200,
        )
        async with serving(config=config) as served:
            call = served.inference.Predictions(PredictionsRequest(model_name="quiet"))
            code, _ = await refused(call)  # it outlives age and grace
            assert code is grpc.StatusCode.UNAVAILABLE
            await served.inference.Ping(Empty())  # on a new connection

    run(main())


# --- health ---


SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def about(service):
    """The health service's request."""
    return b"\x0a" + bytes([len(service)]) + service.encode()


def test_the_health_service_needs_no_token_and_tells_liveness_from_readiness():
    async def main():
        async with serving(authorize=authorize) as served:
            check = served.channel.unary_unary(HEALTH)
            service = INFERENCE.full_name
            assert [await check(b""), await check(about(service))] == [SERVING] * 2
            served.data.ready = False
            assert [await check(b""), await check(about(service))] == [SERVING, NOT_SERVING]
            served.data.healthy = False
            assert await check(b"") == NOT_SERVING
            assert (await refused(check(about("x"))))[0] is grpc.StatusCode.NOT_FOUND

    run(main())


def test_the_management_port_has_the_health_service_too():
    async def main():
        async with serving("management") as served:
            check = served.channel.unary_unary(HEALTH)
            service = "org.pytorch.serve.grpc.management.ManagementAPIsService"
            assert [await check(b""), await check(about(service))] == [SERVING] * 2

    run(main())


# --- life ---


def test_a_reserved_port_is_taken_and_refuses_clients():
    with reserved("grpc_inference", "127.0.0.1", 0) as sock:
        host, number = sock.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, number), 1)


def test_a_port_that_somebody_listens_on_is_in_use_and_the_remedy_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{number} \(grpc_management_address"):
            reserved("grpc_management", "127.0.0.1", number)


def test_a_port_that_is_taken_in_spite_of_the_reservation_is_in_use():
    async def main():
        sock = reserved("grpc_inference", "127.0.0.1", 0)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(sock.getsockname())
            other.listen()
            port = GrpcPort("grpc_inference", sock, Calls(Bus(), float), Limits(1000))
            with pytest.raises(PortInUse, match="it is taken"):
                await port.start()
            await port.stop(0.0)

    run(main())


def test_two_servers_cannot_share_a_port():
    async def main():
        async with serving() as served:
            with pytest.raises(PortInUse):
                reserved("grpc_inference", "127.0.0.1", served.port.port)

    run(main())


def test_the_real_number_of_port_0_is_known_before_it_starts():
    async def main():
        sock = reserved("grpc_inference", "::1", 0)
        number = sock.getsockname()[1]
        port = GrpcPort("grpc_inference", sock, Calls(Bus(), float), Limits(1000))
        assert port.address == f"[::1]:{number}"
        await port.start()
        async with grpc.aio.insecure_channel(port.address) as channel:
            code, _ = await refused(channel.unary_unary("/a/b")(b""))
            assert code is grpc.StatusCode.UNIMPLEMENTED
        await port.stop(0.0)

    run(main())


def test_a_port_that_was_never_started_can_be_stopped():
    async def main():
        sock = reserved("grpc_inference", "127.0.0.1", 0)
        await GrpcPort("grpc_inference", sock, Calls(Bus(), float), Limits(1000)).stop(0.0)
        assert sock.fileno() == -1

    run(main())


def test_stopping_lets_running_calls_finish_and_takes_no_new_ones():
    async def main():
        async with serving() as served:
            call = served.inference.Predictions(PredictionsRequest(model_name="quiet"))
            job = await served.data.jobs.get()
            stopping = asyncio.create_task(served.port.stop(10.0))
            await asyncio.sleep(0)
            # on a connection of its own: what is on its way on an old one is still served
            apart = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(served.port.address, apart) as channel:
                code, _ = await refused(Stub(channel, INFERENCE).Ping(Empty()))
            assert code is grpc.StatusCode.UNAVAILABLE
            job.resolve(Answer(b"done"))
            assert (await call).prediction == b"done"
            await stopping

    run(main())


def test_what_has_not_finished_after_the_grace_is_told_so_and_its_job_abandoned():
    async def main():
        async with serving() as served:
            call = served.inference.Predictions(PredictionsRequest(model_name="quiet"))
            job = await served.data.jobs.get()
            await served.port.stop(0.1)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await served.codes(1) == [14]
            assert not job.is_open

    run(main())


# --- TLS ---


class Certificate:
    """A new self-signed one."""

    def __init__(self, folder, name):
        key, chain = folder / f"{name}.key", folder / f"{name}.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}"),
                *("-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", str(key), "-out", str(chain)),
            ],
            check=True,
            capture_output=True,
        )
        self.private_key_pem = key.read_bytes()
        self.certificate_chain_pem = chain.read_bytes()


async def ping(served, trusted):
    trust = grpc.ssl_channel_credentials(trusted.certificate_chain_pem)
    async with grpc.aio.secure_channel(f"localhost:{served.port.port}", trust) as channel:
        return await Stub(channel, INFERENCE).Ping(Empty())


def test_a_port_with_a_certificate_speaks_tls_and_nothing_else(tmp_path):
    async def main():
        one = Certificate(tmp_path, "one")
        async with serving(certificate=one) as served:
            assert "Healthy" in (await ping(served, one)).health
            code, _ = await refused(served.inference.Ping(Empty()))
            assert code is grpc.StatusCode.UNAVAILABLE

    run(main())


def test_a_renewed_certificate_is_shown_to_the_next_client(tmp_path):
    async def main():
        shown, other = Certificate(tmp_path, "one"), Certificate(tmp_path, "two")
        async with serving(certificate=shown) as served:
            await ping(served, shown)
            vars(shown).update(vars(other))
            await ping(served, other)

    run(main())
