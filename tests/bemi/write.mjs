// Writes through Bemi's client, as an application would: DATABASE_URL=postgresql://... node write.mjs
import { PrismaPg, setBemiContext, withBemiExtension } from "@bemi-db/prisma";
import { PrismaClient } from "@prisma/client";

const adapter = new PrismaPg({ connectionString: process.env.DATABASE_URL });
const prisma = withBemiExtension(new PrismaClient({ adapter }));

setBemiContext({ userID: 187234, endpoint: "/todos", method: "POST" });
const { id } = await prisma.todo.create({ data: { task: "Eat" } });
setBemiContext({ userID: 7, apiEndpoint: "/todo/complete" });
await prisma.todo.update({ where: { id }, data: { task: "Eat & repeat 'it'", done: true } });
await prisma.price.createMany({
  data: [
    { sku: "a", country: "de", amount: "9.50" },
    { sku: "b", country: "de", amount: "1" },
  ],
});
await prisma.todo.delete({ where: { id } });
await prisma.$disconnect();
