/** Passes the rows whose `status` is `paid`. Tables without a status are passed by. */

import { Filter, Plan, Row, Table, register } from "./rowmill";
export * from "./exports";

const PAID = String.UTF8.encode("paid");

class PaidOnly extends Filter {
  schema(table: Table, plan: Plan): void {
    const status = table.find("status");
    if (status < 0) plan.passBy();
    else plan.read(status);
  }

  matches(row: Row): bool {
    return row.values[0].is(PAID);
  }
}

register(new PaidOnly());
