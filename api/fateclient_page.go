package api

import (
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

// sortRows sorts rows as a request asks.
func sortRows[T any](p *fatePage, rows []T, orders map[string]func(a, b T) int) error {
	compare := orders[p.orderBy]
	if compare == nil {
		return bfia.Errorf(bfia.CodeBadRequest, "order_by: %q is none of %s", p.orderBy,
			strings.Join(slices.Sorted(maps.Keys(orders)), ", "))
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
