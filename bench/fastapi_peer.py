"""The peer of bench/registrations.py: the same registration as many would build it."""

import base64
import contextlib
import os
import random
import secrets
import socket

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, String, event, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine(
    f"sqlite+aiosqlite:///{os.environ['BENCH_DATABASE']}", connect_args={"timeout": 30}
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine.sync_engine, "connect")
def _settings(connection, _record):  # type: ignore[no-untyped-def]
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(String(64), unique=True)
    device_limit: Mapped[int] = mapped_column(default=5)


class Device(Base):
    __tablename__ = "device"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(String(64), unique=True)
    public_key: Mapped[str] = mapped_column(String(44), unique=True)
    address4: Mapped[str] = mapped_column(String(15), unique=True)
    address6: Mapped[str] = mapped_column(String(39), unique=True)
    preshared_key: Mapped[str] = mapped_column(String(44))


class Registration(BaseModel):
    public_key: str = Field(min_length=44, max_length=44)


class Registered(BaseModel):
    id: int
    name: str
    token: str
    addresses: list[str]
    preshared_key: str


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI):  # type: ignore[no-untyped-def]
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with sessions() as opened:
        with open(os.environ["BENCH_NUMBERS"]) as file:  # noqa: ASYNC230
            opened.add_all(Account(number=line.strip()) for line in file)
        await opened.commit()
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def session():  # type: ignore[no-untyped-def]
    async with sessions() as opened:
        yield opened


@app.post("/v1/devices", status_code=201, response_model=Registered)
async def register(
    wanted: Registration,
    authorization: str = Header(),
    database: AsyncSession = Depends(session),  # noqa: B008
) -> Registered:
    number = authorization.removeprefix("Bearer ")
    account = await database.scalar(select(Account).where(Account.number == number))
    if account is None:
        raise HTTPException(401)
    # Taken out of the object, which has expired after a rollback.
    account_id, device_limit = account.id, account.device_limit
    count = await database.scalar(select(func.count()).where(Device.account_id == account_id))
    if count >= device_limit:
        raise HTTPException(409)
    for _ in range(10):
        device = Device(
            account_id=account_id,
            name=f"device {secrets.token_hex(2)}",
            token=secrets.token_urlsafe(32),
            public_key=wanted.public_key,
            address4=f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(2, 255)}",
            address6=f"fd00::{secrets.token_hex(2)}:{secrets.token_hex(2)}",
            preshared_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        )
        database.add(device)
        try:
            await database.commit()
            break
        except IntegrityError:
            await database.rollback()
    else:
        raise HTTPException(503)
    return Registered(
        id=device.id,
        name=device.name,
        token=device.token,
        addresses=[device.address4, device.address6],
        preshared_key=device.preshared_key,
    )


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"ready at http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listening])
