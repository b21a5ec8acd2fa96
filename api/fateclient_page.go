package api

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
)

// fatePage is what a request for a list of FATE's clients asks for.
type fatePage struct {
	get func(string) string
	// values holds the parameters that a request may repeat.
	values      map[string][]string
	limit, page int
	orderBy     string
	ascending   bool
}

// fatePageSize is the default number of rows of a page.
const fatePageSize = 10

// fatePage reads the parameters of a list: limit (0: all), page from 1, order_by, order, and filters.
func (s *Server) fatePage(c *fiber.Ctx) (*fatePage, error) {
	get, err := s.params(c)
	if err != nil {
		return nil, err
	}
	p := &fatePage{get: get, values: map[string][]string{}, orderBy: get("order_by")}
	for _, name := range []string{"role", "status"} {
		for _, value := range c.Context().QueryArgs().PeekMulti(name) {
			for one := range strings.SplitSeq(string(value), ",") {
				if one = strings.TrimSpace(one); one != "" {
					p.values[name] = append(p.values[name], one)
				}
			}
		}
	}
	if p.limit, err = number(get, "limit", fatePageSize, 0, 1<<31-1); err != nil {
		return nil, err
	}
	if p.page, err = number(get, "page", 1, 0, 1<<31-1); err != nil {
		return nil, err
	}
	p.page = max(1, p.page)
	switch order := get("order"); order {
	case "asc":
		p.ascending = true
	case "", "desc":
	default:
		return nil, bfia.Errorf(bfia.CodeBadRequest, "order: %q is none of asc, desc", order)
	}
	if p.orderBy == "" {
		p.orderBy = "create_time"
	}
	return p, nil
}

// has reports whether a value passes a filter that may have several values.
func (p *fatePage) has(name, value string) bool {
	return len(p.values[name]) == 0 || slices.Contains(p.values[name], value)
}

// orders are the fields by which rows are sorted.
type orders[T any] map[string]func(a, b T) int

// sortedFields are the fields by which the rows of jobs and of tasks are sorted.
type sortedFields struct {
	created, updated, elapsed  int64
	started, ended             *int64
	jobID, status, role, party string
}

// ordersOf returns the orders by the fields that jobs and tasks have.
func ordersOf[T any](fields func(T) sortedFields) orders[T] {
	o := orders[T]{}
	addOrder("create_time", func(row T) int64 { return fields(row).created }, o)
	addOrder("update_time", func(row T) int64 { return fields(row).updated }, o)
	addOrder("elapsed", func(row T) int64 { return fields(row).elapsed }, o)
	addOrder("start_time", func(row T) int64 { return timeOrZero(fields(row).started) }, o)
	addOrder("end_time", func(row T) int64 { return timeOrZero(fields(row).ended) }, o)
	addOrder("job_id", func(row T) string { return fields(row).jobID }, o)
	addOrder("status", func(row T) string { return fields(row).status }, o)
	addOrder("role", func(row T) string { return fields(row).role }, o)
	return addOrder("party_id", func(row T) string { return fields(row).party }, o)
}

// addOrder adds the order by one field, and returns all orders.
func addOrder[T any, F cmp.Ordered](name string, field func(T) F, o orders[T]) orders[T] {
	o[name] = func(a, b T) int { return cmp.Compare(field(a), field(b)) }
	return o
}

// timeOrZero returns a time; a missing one is the earliest.
func timeOrZero(t *int64) int64 {
	if t == nil {
		return 0
	}
	return *t
}

// sortRows sorts rows as a request asks.
func sortRows[T any](p *fatePage, rows []T, by orders[T]) error {
	compare := by[p.orderBy]
	if compare == nil {
		return bfia.Errorf(bfia.CodeBadRequest, "order_by: %q is none of %s", p.orderBy,
			strings.Join(slices.Sorted(maps.Keys(by)), ", "))
	}
	slices.SortStableFunc(rows, func(a, b T) int {
		if p.ascending {
			return compare(a, b)
		}
		return compare(b, a)
	})
	return nil
}

// pageOf returns a page of rows; never nil, since clients expect a list.
func pageOf[T any](p *fatePage, rows []T) []T {
	if p.limit == 0 {
		return append([]T{}, rows...)
	}
	from := min(len(rows), (p.page-1)*p.limit)
	return append([]T{}, rows[from:min(len(rows), from+p.limit)]...)
}
