package store

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// JobCursor is a position in the list of jobs: newest first, and by descending id within one microsecond.
type JobCursor struct {
	CreatedAt time.Time
	JobID     string
}

// Cursor returns the position of the job in the list of jobs.
func (j Job) Cursor() JobCursor { return JobCursor{CreatedAt: j.CreatedAt, JobID: j.JobID} }

// String encodes the cursor for a URL; [ParseJobCursor] decodes it.
func (c JobCursor) String() string {
	return strconv.FormatInt(c.CreatedAt.UnixMicro(), 10) + "-" + c.JobID
}

// ParseJobCursor decodes a cursor. It returns CodeBadRequest for any other text.
func ParseJobCursor(s string) (JobCursor, error) {
	micros, id, ok := strings.Cut(s, "-")
	n, err := strconv.ParseInt(micros, 10, 64)
	if !ok || err != nil || id == "" || checkText("cursor", id) != nil {
		return JobCursor{}, bfia.Errorf(bfia.CodeBadRequest,
			"cursor: %q is not a position in the list of jobs", s)
	}
	return JobCursor{CreatedAt: time.UnixMicro(n).UTC(), JobID: id}, nil
}

const (
	// MaxJobs is the maximal length of a page, and the default of [JobFilter].
	MaxJobs = 1000

	// searchedJobs is how many jobs are read for a page whose filter no index knows. A page then takes as
	// long with very many jobs as with few, whether or not jobs match.
	searchedJobs = 1000
)

// JobFilter selects jobs. The zero value selects all.
type JobFilter struct {
	FlowID   *string
	Prefix   string // the beginning of the job ids
	States   []bfia.JobState
	Outcomes []bfia.Outcome
	Partner  string     // a party of the job
	Role     string     // of this party: guest, or guest.0
	Text     string     // in the id, flow id, parties, failure or waits, in any case
	Since    time.Time  // created then or later
	Until    time.Time  // created before
	Limit    int        // 1 to MaxJobs; 0 is MaxJobs
	Before   *JobCursor // jobs after this position: the field Next of the previous page
}

// JobPage is a page of the list of jobs, newest first.
type JobPage struct {
	Jobs []Job

	// Next is where the next page begins, nil if this is the last one. A page with a Partner, a Role or a
	// Text can have fewer jobs than its limit, or none, and a Next: so far the jobs were searched.
	Next *JobCursor
}

// Jobs returns a page of the list of jobs. All pages cost the same, however many jobs there are.
func (s *Store) Jobs(ctx context.Context, f JobFilter) (JobPage, error) {
	if f.Limit < 0 || f.Limit > MaxJobs {
		return JobPage{}, bfia.Errorf(bfia.CodeBadRequest, "limit: %d is not between 1 and %d", f.Limit,
			MaxJobs)
	}
	for _, field := range []struct{ name, text string }{{"flow_id", deref(f.FlowID)}, {"partner", f.Partner},
		{"role", f.Role}, {"text", f.Text}, {"prefix", f.Prefix}} {
		if err := checkText(field.name, field.text); err != nil {
			return JobPage{}, err
		}
	}

	var page JobPage
	limit := cmp.Or(f.Limit, MaxJobs)
	q := s.r.NewSelect().Model(&page.Jobs).Limit(limit)
	f.selectIndexed(q)
	if f.Partner != "" || f.Role != "" || f.Text != "" {
		f.selectSearched(q)
		var err error
		if page.Next, err = s.searchEnd(ctx, f); err != nil {
			return JobPage{}, wrap(err, "look where the search for jobs ends")
		}
		if page.Next != nil {
			q.Where("(created_at, job_id) >= (?, ?)", normalizeTime(page.Next.CreatedAt), page.Next.JobID)
		}
	}
	if err := q.Scan(ctx); err != nil {
		return JobPage{}, wrap(err, "list jobs")
	}
	if len(page.Jobs) == limit {
		next := page.Jobs[limit-1].Cursor()
		page.Next = &next
	}
	return page, s.preferScheduler(ctx, page.Jobs)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// searchEnd returns the last job that a search reads for one page, or nil if it reads all.
func (s *Store) searchEnd(ctx context.Context, f JobFilter) (*JobCursor, error) {
	var end []Job
	q := s.r.NewSelect().Model(&end).Column("created_at", "job_id").Offset(searchedJobs - 1).Limit(1)
	f.selectIndexed(q)
	if err := q.Scan(ctx); err != nil || len(end) == 0 {
		return nil, err
	}
	cursor := end[0].Cursor()
	return &cursor, nil
}

// prefixIndexed is the number of characters of an id in the index i_job_prefix.
const prefixIndexed = 12

// selectIndexed selects and orders by what indexes know.
func (f JobFilter) selectIndexed(q *bun.SelectQuery) {
	q.OrderExpr("created_at DESC, job_id DESC")
	if f.FlowID != nil {
		q.Where("flow_id = ?", *f.FlowID)
	}
	if len(f.States) > 0 {
		q.Where("state IN (?)", bun.List(f.States))
	}
	if len(f.Outcomes) > 0 {
		q.Where("outcome IN (?)", bun.List(f.Outcomes))
	}
	if !f.Since.IsZero() {
		q.Where("created_at >= ?", normalizeTime(f.Since))
	}
	if !f.Until.IsZero() {
		q.Where("created_at < ?", normalizeTime(f.Until))
	}
	if n := utf8.RuneCountInString(f.Prefix); n > 0 {
		if n >= prefixIndexed {
			q.Where("substr(job_id, 1, 12) = ?", string([]rune(f.Prefix)[:prefixIndexed]))
		}
		q.Where("substr(job_id, 1, ?) = ?", n, f.Prefix)
	}
	if f.Before != nil {
		q.Where("(created_at, job_id) < (?, ?)", normalizeTime(f.Before.CreatedAt), f.Before.JobID)
	}
}

// likeEscape makes a text literal in a pattern of LIKE ... ESCAPE '!'.
var likeEscape = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// selectSearched selects by what only the jobs themselves say.
func (f JobFilter) selectSearched(q *bun.SelectQuery) {
	if f.Partner != "" {
		q.Where("(scheduler_node = ?0 OR initiator_node = ?0 OR party_nodes LIKE ?1 ESCAPE '!')", f.Partner,
			"%"+likeEscape.Replace(encode(f.Partner))+"%")
	}
	if f.Role != "" {
		role := likeEscape.Replace(strings.Trim(encode(f.Role), `"`))
		q.Where("(roles LIKE ?0 ESCAPE '!' OR roles LIKE ?1 ESCAPE '!')", `%"`+role+`"%`, `%"`+role+`.%`)
	}
	if f.Text == "" {
		return
	}
	contains := func(columns ...string) string {
		for i, c := range columns {
			columns[i] = "LOWER(" + c + ") LIKE ?0 ESCAPE '!'"
		}
		return strings.Join(columns, " OR ")
	}
	// What the scheduler knows of a failure is in its own row, see preferScheduler.
	q.Where("("+contains("j.job_id", "j.flow_id", "j.reason", "j.failure", "j.waiting",
		"j.initiator_node", "j.scheduler_node", "j.party_nodes")+
		" OR EXISTS (SELECT 1 FROM t_schedule_job AS s WHERE s.job_id = j.job_id AND ("+
		contains("s.reason", "s.failure")+")))",
		"%"+likeEscape.Replace(strings.ToLower(f.Text))+"%")
}
