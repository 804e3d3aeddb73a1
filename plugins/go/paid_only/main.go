// Passes the rows whose status is paid. Tables without a status are passed by.
package main

import "rowmill.example/plugins/rowmill"

func init() {
	rowmill.Register(rowmill.Plugin{Schema: schema, Matches: matches})
}

func schema(table *rowmill.Table, plan *rowmill.Plan) {
	status := table.Find("status")
	if status < 0 {
		plan.PassBy()
		return
	}
	plan.Read(status)
}

func matches(row *rowmill.Row) bool { return row.Values[0].Is("paid") }

func main() {}
