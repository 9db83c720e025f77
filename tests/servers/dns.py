"""A small DNS server on loopback: the zone of a test over UDP and TCP, and the faults of real ones."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone

SOA = ". 300 IN SOA ns.example. host.example. 1 3600 600 86400 60\n"
"""What negative answers carry: they live 60 seconds."""


class Fault(Enum):
    """What goes wrong with a name."""

    SERVFAIL = auto()
    REFUSED = auto()
    BOGUS = auto()
    """SERVFAIL of a resolver that found the DNSSEC signatures wrong (RFC 8914, code 6)."""
    SILENT = auto()
    TRUNCATED = auto()
    """Over UDP the answer does not fit; over TCP it is whole."""
    WRONG_ID = auto()
    """The answer is to another question."""
    FORGED_FIRST = auto()
    """A forgery with a wrong id comes before the true answer."""
    GARBAGE = auto()
    NO_SOA = auto()


class DnsServer:
    """Answers from `zone` (zone-file text, names in full); `faults` by name, `asked` in order."""

    def __init__(self, zone: str) -> None:
        self.faults: dict[str, Fault] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.was_asked = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.validated = False
        self.address = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self.publish(zone)

    def publish(self, zone: str) -> None:
        """Replace the zone."""
        text = SOA + zone
        self._zone = dns.zone.from_text(text, origin=".", relativize=False, check_origin=False)

    def questions(self, kind: str = "") -> list[str]:
        """Names asked for, in order."""
        return [name for name, asked, _ in self.asked if kind in {"", asked}]

    async def answers(self, wire: bytes, transport: str) -> list[bytes]:
        """Return the messages that go back for a question."""
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype), transport))
        self.was_asked.set()
        if self.hold is not None:
            await self.hold.wait()
        return self._faulty(query, self.faults.get(name), transport)

    def _faulty(self, query: Any, fault: Fault | None, transport: str) -> list[bytes]:
        response = self._response(query, with_soa=fault is not Fault.NO_SOA)
        true = response.to_wire(max_size=65_535)
        if transport == "UDP" and len(true) > max(512, query.payload):
            fault = Fault.TRUNCATED
        other = struct.pack("!H", query.id ^ 0x5555) + true[2:]
        match fault:
            case Fault.SILENT:
                return []
            case Fault.GARBAGE:
                return [true[:2] + b"\xff" * 40]
            case Fault.WRONG_ID:
                return [other]
            case Fault.FORGED_FIRST:
                return [other, true]
            case Fault.TRUNCATED if transport == "UDP":
                cut = dns.message.make_response(query)
                cut.flags |= dns.flags.TC
                return [cut.to_wire()]
            case Fault.SERVFAIL | Fault.REFUSED | Fault.BOGUS:
                return [self._refusal(query, fault)]
        return [true]

    def _refusal(self, query: Any, fault: Fault) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.REFUSED if fault is Fault.REFUSED else dns.rcode.SERVFAIL)
        if fault is Fault.BOGUS:
            response.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS)])
        return response.to_wire()

    def _response(self, query: Any, *, with_soa: bool) -> dns.message.QueryMessage:
        response = dns.message.make_response(query)
        assert isinstance(response, dns.message.QueryMessage)
        response.flags |= dns.flags.RA | (dns.flags.AD if self.validated else 0)
        (question,) = query.question
        name, followed = question.name, set()
        while name not in followed:
            followed.add(name)
            if (found := self._zone.get_rdataset(name, question.rdtype)) is not None:
                response.answer.append(dns.rrset.from_rdata_list(name, found.ttl, list(found)))
                return response
            if (alias := self._zone.get_rdataset(name, dns.rdatatype.CNAME)) is None:
                break
            response.answer.append(dns.rrset.from_rdata_list(name, alias.ttl, list(alias)))
            name = alias[0].target
        else:
            return response
        if not any(one.is_subdomain(name) for one in self._zone.nodes):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if with_soa:
            soa = self._zone.get_rdataset(dns.name.root, dns.rdatatype.SOA)
            assert soa is not None
            response.authority.append(dns.rrset.from_rdata_list(dns.name.root, soa.ttl, list(soa)))
        return response

    def serve(self, wire: bytes, peer: Any, transport: asyncio.DatagramTransport) -> None:
        async def answer() -> None:
            for message in await self.answers(wire, "UDP"):
                transport.sendto(message, peer)

        task = asyncio.create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = struct.unpack("!H", await reader.readexactly(2))[0]
        for message in await self.answers(await reader.readexactly(size), "TCP"):
            writer.write(struct.pack("!H", len(message)) + message)
        await writer.drain()
        writer.close()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server.serve(data, addr, self._transport)


@asynccontextmanager
async def dns_server(zone: str = "") -> AsyncIterator[DnsServer]:
    """Run a server on one free port of loopback while the block runs."""
    server = DnsServer(zone)
    streams = await asyncio.start_server(server.serve_stream, "127.0.0.1", 0)
    port = streams.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(server), local_addr=("127.0.0.1", port)
    )
    server.address = f"127.0.0.1:{port}"
    try:
        yield server
    finally:
        transport.close()
        streams.close()
        await server.end()
