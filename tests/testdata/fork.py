"""Forks after C_Initialize and login. The child must find itself uninitialised, may initialise and log in for itself, and must leave
the parent's sessions and login alone; the parent must go on as if nothing had happened. Nothing but ctypes, so that no binding
stands between the story and the module. Ends with 0 when all is as it should be."""

import ctypes
import os
import sys

NOT_INITIALIZED = 0x190
RW_USER = 3

lib = ctypes.CDLL(os.environ["PKCS11_MODULE"])
ulong = ctypes.c_ulong


class SessionInfo(ctypes.Structure):
    _fields_ = [("slot", ulong), ("state", ulong), ("flags", ulong), ("error", ulong)]


def check(what, rv, expected=0):
    if rv != expected:
        sys.stderr.write("pid %d: %s: 0x%x, expected 0x%x\n" % (os.getpid(), what, rv, expected))
        os._exit(1)


def first_slot():
    count = ulong(64)
    slots = (ulong * 64)()
    check("C_GetSlotList", lib.C_GetSlotList(b"\x01"[0], slots, ctypes.byref(count)))
    return slots[0]


def log_in():
    session = ulong()
    check("C_OpenSession", lib.C_OpenSession(ulong(first_slot()), ulong(6), None, None, ctypes.byref(session)))
    pin = os.environ["PIN"].encode()
    check("C_Login", lib.C_Login(session, ulong(1), pin, ulong(len(pin))))
    return session


def state(session):
    info = SessionInfo()
    check("C_GetSessionInfo", lib.C_GetSessionInfo(session, ctypes.byref(info)))
    return info.state


check("C_Initialize", lib.C_Initialize(None))
session = log_in()
child = os.fork()
if child == 0:
    info = SessionInfo()
    check("C_GetSessionInfo in the child", lib.C_GetSessionInfo(session, ctypes.byref(info)), NOT_INITIALIZED)
    check("C_Initialize in the child", lib.C_Initialize(None))
    own = log_in()
    check("state in the child", state(own), RW_USER)
    check("C_Finalize in the child", lib.C_Finalize(None))
    os._exit(0)
_, status = os.waitpid(child, 0)
check("the child's exit status", status)
check("state in the parent", state(session), RW_USER)
buffer = (ctypes.c_ubyte * 16)()
check("C_GenerateRandom in the parent", lib.C_GenerateRandom(session, buffer, ulong(16)))
check("C_Finalize in the parent", lib.C_Finalize(None))
print("parent goes on")
