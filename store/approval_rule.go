package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

type approvalRuleRow struct {
	bun.BaseModel `bun:"table:t_approval_rule,alias:r"`

	ID         string     `bun:"rule_id,pk"`
	Scope      string     `bun:"scope"`
	Project    string     `bun:"project"` // empty: of all
	Until      time.Time  `bun:"until"`
	Note       string     `bun:"note"`
	FromJob    string     `bun:"from_job"`
	CreatedBy  string     `bun:"created_by"`
	Credential string     `bun:"credential"`
	CreatedAt  time.Time  `bun:"created_at"`
	RemovedAt  *time.Time `bun:"removed_at"`
	RemovedBy  string     `bun:"removed_by"`
	Used       int        `bun:"used"`
	LastUsedAt *time.Time `bun:"last_used_at"`
}

func (r *approvalRuleRow) rule() (bfia.ApprovalRule, error) {
	normalizeTimes(&r.Until, &r.CreatedAt, r.RemovedAt, r.LastUsedAt)
	rule := bfia.ApprovalRule{ID: r.ID, Until: r.Until, Note: r.Note, FromJob: r.FromJob,
		CreatedBy: r.CreatedBy, Credential: r.Credential, CreatedAt: r.CreatedAt, RemovedAt: r.RemovedAt,
		RemovedBy: r.RemovedBy, Project: r.Project, Used: r.Used, LastUsedAt: r.LastUsedAt}
	if err := json.Unmarshal([]byte(r.Scope), &rule.Scope); err != nil {
		return rule, fmt.Errorf("store: failed to decode the scope of approval rule %s: %w", r.ID, err)
	}
	rule.Describe()
	return rule, nil
}

// ruleDecision is what the rules decided on a job when it arrived.
type ruleDecision struct {
	bun.BaseModel `bun:"table:t_rule_decision,alias:rd"`

	JobID     string    `bun:"job_id,pk"`
	RuleID    string    `bun:"rule_id"` // empty: a person decides
	Datasets  string    `bun:"datasets"`
	CreatedAt time.Time `bun:"created_at"`
}

// MaxApprovalRules bounds the active rules of a project, and those for all projects, since each job is
// compared with them.
const MaxApprovalRules = 1000

// AddApprovalRule records a rule, which [bfia.ApprovalRule.Check] has checked, and returns it with its time
// and text. Too many active rules are CodeTooMany.
func (s *Store) AddApprovalRule(ctx context.Context, rule bfia.ApprovalRule) (bfia.ApprovalRule, error) {
	scope := encode(rule.Scope)
	if err := checkText("rule_id", rule.ID, "scope", scope, "note", rule.Note, "job_id", rule.FromJob,
		"created_by", rule.CreatedBy, "credential", rule.Credential, "project", rule.Project); err != nil {
		return rule, err
	}
	row := approvalRuleRow{ID: rule.ID, Scope: scope, Project: rule.Project,
		Until: normalizeTime(rule.Until), Note: rule.Note, FromJob: rule.FromJob,
		CreatedBy: rule.CreatedBy, Credential: rule.Credential, CreatedAt: normalizeTime(time.Now())}
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if row.Project != "" {
			if err := s.holdProject(ctx, tx, row.Project); err != nil {
				return err
			}
		}
		active, err := tx.NewSelect().Model((*approvalRuleRow)(nil)).
			Where("removed_at IS NULL AND until > ? AND project = ?", row.CreatedAt, row.Project).Count(ctx)
		if err != nil {
			return err
		}
		if active >= MaxApprovalRules {
			return bfia.Errorf(bfia.CodeTooMany, "rule: there are %d active approval rules; remove "+
				"some first ('hutong approval rule remove')", active)
		}
		_, err = tx.NewInsert().Model(&row).Exec(ctx)
		return err
	})
	if err != nil {
		return rule, wrap(err, "record approval rule %s", rule.ID)
	}
	return row.rule()
}

// ApprovalRules returns all approval rules that the context knows, also those that have ended or were
// removed, oldest first. Those for all projects are known to a context that knows all.
func (s *Store) ApprovalRules(ctx context.Context) ([]bfia.ApprovalRule, error) {
	rules, err := readRules(ctx,
		rowsOf(ctx, "r.project").addTo(s.r.NewSelect()).Order("created_at", "rule_id"))
	return rules, wrap(err, "list approval rules")
}

func readRules(ctx context.Context, q *bun.SelectQuery) ([]bfia.ApprovalRule, error) {
	var rows []approvalRuleRow
	if err := q.Model(&rows).Scan(ctx); err != nil {
		return nil, err
	}
	rules := make([]bfia.ApprovalRule, len(rows))
	for i := range rows {
		var err error
		if rules[i], err = rows[i].rule(); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// ApprovalRule returns an approval rule, or CodeNotFound.
func (s *Store) ApprovalRule(ctx context.Context, id string) (bfia.ApprovalRule, error) {
	if err := checkText("rule_id", id); err != nil {
		return bfia.ApprovalRule{}, err
	}
	rules, err := readRules(ctx, rowsOf(ctx, "r.project").addTo(s.r.NewSelect()).Where("rule_id = ?", id))
	if err != nil {
		return bfia.ApprovalRule{}, wrap(err, "read approval rule %s", id)
	}
	if len(rules) == 0 {
		return bfia.ApprovalRule{}, unknownRule(id)
	}
	return rules[0], nil
}

func unknownRule(id string) error {
	return bfia.Errorf(bfia.CodeNotFound,
		"rule_id: there is no approval rule %q; 'hutong approval rule list' lists them", id)
}

// RemoveApprovalRule ends a rule for jobs that are not approved yet. Removed again it stays as it is. An
// unknown rule is CodeNotFound.
func (s *Store) RemoveApprovalRule(ctx context.Context, id, by string) error {
	if err := checkText("rule_id", id, "removed_by", by); err != nil {
		return err
	}
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		known := rowsOf(ctx, "r.project")
		n, err := affected(tx.NewUpdate().Model((*approvalRuleRow)(nil)).
			Set("removed_by = CASE WHEN removed_at IS NULL THEN ? ELSE removed_by END", by).
			Set("removed_at = COALESCE(removed_at, ?)", normalizeTime(time.Now())).
			Where("rule_id = ?", id).Where(known.text, known.args...).Exec(ctx))
		if err == nil && n == 0 {
			return unknownRule(id)
		}
		return err
	}), "remove approval rule %s", id)
}

// RuleClaim is what a job that arrives at a party with manual approval does there.
type RuleClaim struct {
	Scope bfia.ApprovalScope
	// Datasets are the generations of the datasets whose columns the scope has, by address.
	Datasets map[string]string
	// FourEyes excludes the rules that the job's submitter made.
	FourEyes bool
}

// Acceptance is what a party checks and decides in the transaction that stores the record of a job.
type Acceptance struct {
	// Project is the project to which the job belongs. Empty: default.
	Project string
	// Grants is what the job needs of the party's grants; nil: nothing.
	Grants *GrantClaim
	// Rules is what the job does, if rules may approve it; nil: they may not.
	Rules *RuleClaim
}

// AcceptJob stores the record of a job as [Store.PutGrantedJobRecord] does, and in the same transaction
// applies the approval rules to a job on which they have not decided. It returns the id of the rule that has
// approved the job, or "" if none has. With the approval it writes an entry of the audit trail, which
// names the rule and who made it.
func (s *Store) AcceptJob(ctx context.Context, jobID string, doc []byte, registry *Registry, a Acceptance,
) (ruleID string, err error) {
	row, err := newDocument(jobID, doc, registry)
	if err != nil {
		return "", err
	}
	first := s.assignIn(jobID, cmp.Or(a.Project, identity.DefaultProject))
	return ruleID, s.putRecord(ctx, s.actTx, row, first, func(ctx context.Context, tx bun.Tx) (err error) {
		if a.Grants != nil {
			if err := claimGrants(ctx, tx, jobID, *a.Grants); err != nil {
				return err
			}
		}
		if a.Rules != nil {
			ruleID, err = s.applyRules(ctx, tx, jobID, a.Rules)
		}
		return err
	})
}

// applyRules decides once on a job, and records the decision.
func (s *Store) applyRules(ctx context.Context, tx bun.Tx, jobID string, claim *RuleClaim) (string, error) {
	now := normalizeTime(time.Now())
	decision := ruleDecision{JobID: jobID, Datasets: encode(claim.Datasets), CreatedAt: now}
	// The row locks the job: of concurrent requests the first one decides.
	n, err := affected(tx.NewInsert().Model(&decision).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
	if err != nil {
		return "", err
	}
	if n == 0 {
		return decidingRule(ctx, tx, jobID)
	}
	rule, err := chooseRule(ctx, tx, jobID, claim, now)
	if err != nil || rule == nil {
		return "", err
	}
	if _, err := tx.NewUpdate().Model((*ruleDecision)(nil)).Set("rule_id = ?", rule.ID).
		Where("job_id = ?", jobID).Exec(ctx); err != nil {
		return "", err
	}
	approver := JobClient{JobID: jobID, Act: string(bfia.JobReady), Name: rule.CreatedBy, Credential: rule.ID,
		Proof: string(identity.ByRule), CreatedAt: now}
	if _, err := tx.NewInsert().Model(&approver).On("CONFLICT (job_id, act, name, credential) DO NOTHING").
		Exec(ctx); err != nil {
		return "", err
	}
	entry := audit.New(identity.Principal{Kind: identity.KindClient, Name: rule.CreatedBy,
		Proof: identity.ByRule, Credential: rule.ID}, audit.Approve,
		audit.Object{Kind: audit.Job, ID: jobID}, audit.Allowed, now)
	entry.Reason = "approval rule " + rule.ID
	return rule.ID, s.Audit(ctx, tx, &entry)
}

// chooseRule returns the rule that approves a job, and counts it, or nil. A rule of another project than the
// job's does not count.
func chooseRule(ctx context.Context, tx bun.Tx, jobID string, claim *RuleClaim, now time.Time,
) (*bfia.ApprovalRule, error) {
	project, _, err := jobProject(ctx, tx, jobID)
	if err != nil {
		return nil, err
	}
	rules, err := readRules(ctx, tx.NewSelect().Where("removed_at IS NULL AND until > ?", now).
		Where("project IN ('', ?)", project).Order("created_at", "rule_id"))
	if err != nil || len(rules) == 0 {
		return nil, err
	}
	conditions := bfia.RuleConditions{Now: now, FourEyes: claim.FourEyes}
	if conditions.Submitters, err = submitters(ctx, tx, jobID); err != nil {
		return nil, err
	}
	for {
		rule, _ := bfia.ChooseRule(rules, claim.Scope, conditions)
		if rule == nil {
			return nil, nil
		}
		// The update locks the rule. A rule that was removed since it was read is not counted.
		n, err := affected(tx.NewUpdate().Model((*approvalRuleRow)(nil)).
			Set("used = used + 1, last_used_at = ?", now).
			Where("rule_id = ? AND removed_at IS NULL", rule.ID).Exec(ctx))
		if err != nil || n == 1 {
			return rule, err
		}
		id := rule.ID
		rules = slices.DeleteFunc(rules, func(r bfia.ApprovalRule) bool { return r.ID == id })
	}
}

func submitters(ctx context.Context, db bun.IDB, jobID string) ([]bfia.RuleClient, error) {
	var rows []JobClient
	if err := db.NewSelect().Model(&rows).Where("job_id = ? AND act = ?", jobID, ActSubmitted).
		Scan(ctx); err != nil {
		return nil, err
	}
	clients := make([]bfia.RuleClient, len(rows))
	for i, r := range rows {
		clients[i] = bfia.RuleClient{Name: r.Name, Credential: r.Credential}
	}
	return clients, nil
}

func decidingRule(ctx context.Context, db bun.IDB, jobID string) (string, error) {
	var ids []string
	err := db.NewSelect().Model((*ruleDecision)(nil)).Column("rule_id").Where("job_id = ?", jobID).
		Scan(ctx, &ids)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// Submitters returns the clients of this party who submitted a job.
func (s *Store) Submitters(ctx context.Context, jobID string) ([]bfia.RuleClient, error) {
	clients, err := submitters(ctx, s.r, jobID)
	return clients, wrap(err, "read who submitted job %s", jobID)
}

// DecidingRule returns the id of the rule that has approved a job, or "".
func (s *Store) DecidingRule(ctx context.Context, jobID string) (string, error) {
	id, err := decidingRule(ctx, s.w, jobID)
	return id, wrap(err, "read which rule approved job %s", jobID)
}

// ForgetRuleDecision deletes what the rules decided on a job that was not created, and that they are among
// its approvers. The audit trail keeps it.
func (s *Store) ForgetRuleDecision(ctx context.Context, jobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		return forgetRuleDecision(ctx, tx, jobID)
	}), "delete what the approval rules decided on job %s", jobID)
}

func forgetRuleDecision(ctx context.Context, tx bun.Tx, jobID string) error {
	if _, err := tx.NewDelete().Model((*ruleDecision)(nil)).Where("job_id = ?", jobID).Exec(ctx); err != nil {
		return err
	}
	_, err := tx.NewDelete().Model((*JobClient)(nil)).
		Where("job_id = ? AND proof = ?", jobID, string(identity.ByRule)).Exec(ctx)
	return err
}

// checkDecidedDatasets refuses a job that a rule approved for other generations of its datasets than those
// that it would read: they may have other columns.
func checkDecidedDatasets(ctx context.Context, tx bun.Tx, jobID string, tasks []Task) error {
	var rows []ruleDecision
	if err := tx.NewSelect().Model(&rows).Where("job_id = ? AND rule_id <> ''", jobID).
		Scan(ctx); err != nil || len(rows) == 0 {
		return err
	}
	decided := map[string]string{}
	if err := json.Unmarshal([]byte(rows[0].Datasets), &decided); err != nil {
		return fmt.Errorf("failed to decode the datasets on which rule %s decided: %w", rows[0].RuleID, err)
	}
	for _, t := range tasks {
		if t.Dataset != "" && decided[t.Dataset] != t.DatasetGeneration {
			return bfia.Errorf(bfia.CodeConflict, "dataset_id: dataset %s was uploaded again or deleted "+
				"while the job was created; submit the job again", t.Dataset)
		}
	}
	return nil
}
