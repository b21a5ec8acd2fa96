package store

import (
	"cmp"
	"context"
	"slices"
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

	// minSearchedJobs is how many are read in each of many projects.
	minSearchedJobs = 100
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
	// Text, or of single projects, can have fewer jobs than its limit, or none, and a Next: so far the jobs
	// were searched.
	Next *JobCursor
}

// Jobs returns a page of the list of jobs that the context knows. All pages cost the same, however many jobs
// there are.
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

	f.Limit = cmp.Or(f.Limit, MaxJobs)
	var page JobPage
	var err error
	if projects, all := ProjectsOf(ctx); all {
		page, err = s.readJobs(ctx, jobSearch{JobFilter: f, window: searchedJobs})
	} else {
		page, err = s.jobsOfProjects(ctx, f, projects)
	}
	if err != nil {
		return JobPage{}, err
	}
	return page, s.preferScheduler(ctx, page.Jobs)
}

// jobsOfProjects merges the pages of several projects, since an index has the order of the list only within a
// project.
func (s *Store) jobsOfProjects(ctx context.Context, f JobFilter, projects []string) (JobPage, error) {
	search := jobSearch{JobFilter: f, inProject: true}
	search.window = max(searchedJobs/max(len(projects), 1), minSearchedJobs)
	var jobs []Job
	for _, project := range projects {
		page, err := s.readJobs(WithProjects(ctx, project), search)
		if err != nil || len(projects) == 1 {
			return page, err
		}
		if page.Next != nil {
			search.oldest = page.Next // this project was read no further; it is not older than that before
		}
		jobs = append(jobs, page.Jobs...)
		slices.SortFunc(jobs, func(a, b Job) int { return b.CreatedAt.Compare(a.CreatedAt) })
		if len(jobs) >= f.Limit {
			search.Since = jobs[f.Limit-1].CreatedAt // older ones are not of this page
		}
	}
	jobs, err := s.sortJobs(ctx, jobs, search.oldest)
	if err != nil {
		return JobPage{}, wrap(err, "sort jobs of several projects")
	}
	page := JobPage{Jobs: jobs, Next: search.oldest}
	if len(jobs) >= f.Limit {
		page.Jobs = jobs[:f.Limit]
		next := page.Jobs[f.Limit-1].Cursor()
		page.Next = &next
	}
	return page, nil
}

// sortJobs sorts jobs as the list does, and leaves out those after a position. The database compares the ids
// of jobs of the same time, since the order of texts in PostgreSQL depends on its locale.
func (s *Store) sortJobs(ctx context.Context, jobs []Job, oldest *JobCursor) ([]Job, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	var ids []any
	for _, j := range jobs {
		ids = append(ids, j.JobID)
	}
	if oldest != nil {
		ids = append(ids, oldest.JobID)
	}
	values := strings.TrimSuffix(strings.Repeat("(?), ", len(ids)), ", ")
	var sorted []string
	err := s.r.NewRaw("SELECT * FROM (VALUES "+values+") AS v ORDER BY 1 DESC", ids...).Scan(ctx, &sorted)
	if err != nil {
		return nil, err
	}
	places := make(map[string]int, len(sorted))
	for i, id := range sorted {
		places[id] = i
	}
	compare := func(a, b JobCursor) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(places[a.JobID], places[b.JobID]))
	}
	slices.SortFunc(jobs, func(a, b Job) int { return compare(a.Cursor(), b.Cursor()) })
	return slices.DeleteFunc(jobs, func(j Job) bool {
		return oldest != nil && compare(j.Cursor(), *oldest) > 0
	}), nil
}

// readJobs returns the page of a search.
func (s *Store) readJobs(ctx context.Context, f jobSearch) (JobPage, error) {
	var page JobPage
	q := s.r.NewSelect().Model(&page.Jobs).Limit(f.Limit)
	f.selectIndexed(ctx, q)
	if f.searches() {
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
	if len(page.Jobs) == f.Limit {
		next := page.Jobs[f.Limit-1].Cursor()
		page.Next = &next
	}
	return page, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// searchEnd returns the last job that a search reads for one page, or nil if it reads all.
func (s *Store) searchEnd(ctx context.Context, f jobSearch) (*JobCursor, error) {
	var end []Job
	q := s.r.NewSelect().Model(&end).Column("created_at", "job_id").Offset(f.window - 1).Limit(1)
	f.selectIndexed(ctx, q)
	if err := q.Scan(ctx); err != nil || len(end) == 0 {
		return nil, err
	}
	cursor := end[0].Cursor()
	return &cursor, nil
}

// jobSearch is a filter with what bounds the jobs that are read for a page.
type jobSearch struct {
	JobFilter
	inProject bool       // of one project, that of the context
	oldest    *JobCursor // no jobs after this position
	window    int        // how many jobs are read if no index knows the filter
}

// prefixIndexed is the number of characters of an id in the index i_job_prefix.
const prefixIndexed = 12

// searches reports whether the filter has what no index knows. In a project, indexes know the order of the
// list, and the ids.
func (f jobSearch) searches() bool {
	if f.inProject && !f.byPrefix() && (f.FlowID != nil || len(f.States) > 0 || len(f.Outcomes) > 0 ||
		f.Prefix != "") {
		return true
	}
	return f.Partner != "" || f.Role != "" || f.Text != ""
}

// byPrefix reports whether an index finds the few jobs whose ids begin like this.
func (f jobSearch) byPrefix() bool { return utf8.RuneCountInString(f.Prefix) >= prefixIndexed }

// selectIndexed selects and orders by what indexes know.
func (f jobSearch) selectIndexed(ctx context.Context, q *bun.SelectQuery) {
	q.OrderExpr("created_at DESC, job_id DESC")
	f.selectProject(ctx, q)
	if !f.inProject || f.byPrefix() {
		f.selectColumns(q)
	}
	if !f.Since.IsZero() {
		q.Where("created_at >= ?", normalizeTime(f.Since))
	}
	if !f.Until.IsZero() {
		q.Where("created_at < ?", normalizeTime(f.Until))
	}
	if f.Before != nil {
		q.Where("(created_at, job_id) < (?, ?)", normalizeTime(f.Before.CreatedAt), f.Before.JobID)
	}
	if f.oldest != nil {
		q.Where("(created_at, job_id) >= (?, ?)", normalizeTime(f.oldest.CreatedAt), f.oldest.JobID)
	}
}

// selectProject selects the jobs of the project that the context knows. An expression keeps databases from
// the index of a column: the beginning of an id finds fewer jobs than the project.
func (f jobSearch) selectProject(ctx context.Context, q *bun.SelectQuery) {
	if f.inProject && f.byPrefix() {
		jobsOf(ctx, "j.job_id").addTo(rowsOf(ctx, "j.project || ''").addTo(q))
		return
	}
	ofJobRows(ctx, q)
}

// selectColumns selects by columns that have indexes with the jobs of all projects. For one project, an
// expression keeps databases from these.
func (f jobSearch) selectColumns(q *bun.SelectQuery) {
	column := func(name string) string {
		if f.inProject {
			return name + " || ''"
		}
		return name
	}
	if f.FlowID != nil {
		q.Where(column("flow_id")+" = ?", *f.FlowID)
	}
	if len(f.States) > 0 {
		q.Where(column("state")+" IN (?)", bun.List(f.States))
	}
	if len(f.Outcomes) > 0 {
		q.Where(column("outcome")+" IN (?)", bun.List(f.Outcomes))
	}
	if f.byPrefix() {
		q.Where("substr(job_id, 1, 12) = ?", string([]rune(f.Prefix)[:prefixIndexed]))
	}
	if n := utf8.RuneCountInString(f.Prefix); n > 0 {
		q.Where("substr(job_id, 1, ?) = ?", n, f.Prefix)
	}
}

// likeEscape makes a text literal in a pattern of LIKE ... ESCAPE '!'.
var likeEscape = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// selectSearched selects by what only the jobs themselves say.
func (f jobSearch) selectSearched(q *bun.SelectQuery) {
	if f.inProject && !f.byPrefix() {
		f.selectColumns(q)
	}
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
