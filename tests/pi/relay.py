"""A cable to an emulated Pi: the process that holds its network, which is loopback alone, and brings ssh into it.

Started as a program, with a listening socket of this machine's loopback as its only argument. It prints a line once it
has left this machine's network; what is accepted on that socket from then on is connected to port 22 of the other one.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import sys

NEW_NETWORK = 0x40000000  # CLONE_NEWNET, <linux/sched.h>
SET_FLAGS = 0x8914  # SIOCSIFFLAGS, <linux/sockios.h>
UP = 0x1  # IFF_UP, <linux/if.h>


def leave_this_network() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", b"lo", UP))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(1 << 16):
            writer.write(some)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there, to = await asyncio.open_connection("127.0.0.1", 22)
    except OSError:  # it is off, or starting
        writer.close()
        return
    await asyncio.gather(pump(reader, to), pump(there, writer))


async def serve(listening: socket.socket) -> None:
    server = await asyncio.start_server(connect, sock=listening)
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    leave_this_network()
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
