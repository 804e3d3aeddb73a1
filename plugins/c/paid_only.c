/* Passes the rows whose `status` is `paid`. Tables without a status are passed by. */
#include "rowmill.h"

ROWMILL_FILTER("paid_only_c", "1.0.0", "{\\\"type\\\": \\\"null\\\"}")

const char *plugin_init(rm_reader config) {
    return rm_read(&config).kind == RM_NULL ? NULL : "paid_only takes no config";
}

void plugin_schema(const rm_table *table, rm_plan *plan) {
    int32_t status = rm_find_column(table, "status");
    if (status < 0) plan->action = RM_PASS_BY;
    else rm_reads(plan, (uint32_t)status);
}

bool plugin_matches(rm_row *row) { return rm_is(row->values[0], "paid"); }
