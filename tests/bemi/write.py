# Writes through Bemi's client for SQLAlchemy, as an application would: DATABASE_URL=postgresql://... python write.py
import os
from alembic.migration import MigrationContext
from alembic.operations import Operations
from bemi import Bemi
from sqlalchemy import Boolean, Column, Integer, Numeric, Text, create_engine
from sqlalchemy.orm import Session, declarative_base

Base = declarative_base()

class Todo(Base):
    __tablename__ = "todos"
    id = Column(Integer, primary_key=True)
    task = Column(Text)
    done = Column(Boolean)

class Price(Base):
    __tablename__ = "prices"
    sku = Column(Text, primary_key=True)
    country = Column(Text, primary_key=True)
    amount = Column(Numeric)

engine = create_engine("postgresql+psycopg2://" + os.environ["DATABASE_URL"].split("://", 1)[1])
with engine.begin() as connection:
    with Operations.context(MigrationContext.configure(connection)):
        Bemi.migration_upgrade()
with Session(engine) as session:
    Bemi.set_context({"userID": 187234, "endpoint": "/todos"})
    todo = Todo(task="Eat", done=False)
    session.add(todo)
    session.commit()
    Bemi.set_context({"userID": 7})
    todo.task, todo.done = "Eat & repeat 'it'", True
    session.commit()
    session.add_all([Price(sku="a", country="de", amount=9.5), Price(sku="b", country="de", amount=1)])
    session.commit()
    session.delete(todo)
    session.commit()
