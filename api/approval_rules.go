package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// addApprovalRule records a rule that approves the jobs which its scope covers, from now on.
func (s *Server) addApprovalRule(c *fiber.Ctx) error {
	var request struct {
		Scope   bfia.ApprovalScope `json:"scope"`
		Until   time.Time          `json:"until"`
		Note    string             `json:"note"`
		FromJob string             `json:"job_id"`
		Project string             `json:"project"`
	}
	if err := s.readJSON(c, &request); err != nil {
		return err
	}
	project, err := s.ruleProject(c.UserContext(), request.Project, request.FromJob)
	if err != nil {
		return err
	}
	p := identity.From(c.UserContext())
	rule := bfia.ApprovalRule{ID: uuid.NewString(), Scope: request.Scope, Until: request.Until,
		Note: request.Note, FromJob: request.FromJob, Project: project, CreatedBy: p.Name,
		Credential: p.Credential}
	if p.Proof == identity.ByNothing { // the party does not know who it is
		rule.Credential = ""
	}
	if err := rule.Check(s.Node, time.Now()); err != nil {
		return err
	}
	on(c.UserContext(), audit.Rule, rule.ID)
	recorded, err := s.store.AddApprovalRule(c.UserContext(), rule)
	if err != nil {
		return err
	}
	s.logger.Info("an approval rule was added", "rule_id", recorded.ID,
		"initiator", recorded.Scope.Initiator, "flow_id", recorded.Scope.FlowID, "until", recorded.Until,
		"by", recorded.CreatedBy)
	return ok(c, recorded)
}

// ruleProject returns of which project's jobs a new rule may approve: that which the request names, or the
// only one of a client who decides in single projects. Without, a rule is for the jobs of all projects, which
// only a client who decides in all may add. The job of which the rule is made must be known to the client.
func (s *Server) ruleProject(ctx context.Context, named, fromJob string) (string, error) {
	if fromJob != "" {
		known, err := s.store.KnowsJob(ctx, fromJob)
		if err != nil {
			return "", err
		}
		if !known {
			return "", bfia.Errorf(bfia.CodeNotFound, "job_id: job %q is not known", fromJob)
		}
	}
	projects, all := store.ProjectsOf(ctx)
	switch {
	case named != "":
		return named, s.store.CheckProject(ctx, named)
	case all:
		return "", nil
	case len(projects) == 1:
		return projects[0], s.store.CheckProject(ctx, projects[0])
	}
	return "", bfia.Errorf(bfia.CodeBadRequest, "project: is required; you have this right in the projects %s",
		strings.Join(projects, ", "))
}

// queryApprovalRules lists all approval rules, also those that have ended or were removed.
func (s *Server) queryApprovalRules(c *fiber.Ctx) error {
	if _, err := s.params(c); err != nil {
		return err
	}
	rules, err := s.store.ApprovalRules(c.UserContext())
	if err != nil {
		return err
	}
	return ok(c, rules)
}

// removeApprovalRule ends a rule for jobs that are not approved yet.
func (s *Server) removeApprovalRule(c *fiber.Ctx) error {
	var ref bfia.ApprovalRuleRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if ref.ID == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "rule_id: is required")
	}
	on(c.UserContext(), audit.Rule, ref.ID)
	by := identity.From(c.UserContext()).Name
	if err := s.store.RemoveApprovalRule(c.UserContext(), ref.ID, by); err != nil {
		return err
	}
	s.logger.Info("an approval rule was removed", "rule_id", ref.ID, "by", by)
	return ok(c, ref)
}

// ruleClaim returns what a job does at this party, if approval rules may approve it; nil if nobody need.
func (s *Server) ruleClaim(ctx context.Context, record *store.JobRecord, from origin) (*store.RuleClaim,
	error) {
	if !s.Approval {
		return nil, nil
	}
	view, err := s.viewRecord(ctx, record)
	if err != nil {
		return nil, err
	}
	scope, err := s.scopeOf(ctx, record.Document, view, from)
	if err != nil {
		return nil, err
	}
	claim := &store.RuleClaim{Scope: scope, Datasets: map[string]string{}, FourEyes: s.FourEyes}
	for _, t := range view.Tasks {
		for _, p := range t.Parts {
			if p.NodeID == s.Node && p.Dataset != nil && p.Dataset.Generation != "" {
				claim.Datasets[p.Dataset.Namespace+"#"+p.Dataset.Name] = p.Dataset.Generation
			}
		}
	}
	return claim, nil
}

// scopeOf returns what a job does at this party. The initiator that its document names counts only as far as
// it is proved.
func (s *Server) scopeOf(ctx context.Context, doc *bfia.Document, view *bfia.JobView, from origin,
) (bfia.ApprovalScope, error) {
	owner, err := s.ownerOf(ctx, doc, from)
	if err != nil {
		return bfia.ApprovalScope{}, err
	}
	return bfia.ScopeOf(view, owner, from.sender), nil
}

// forgetRuleDecision deletes what approval rules decided on a job, if its workflow has refused it. After any
// other error the workflow may still start.
func (s *Server) forgetRuleDecision(ctx context.Context, jobID string, refusal error) {
	if code := bfia.CodeOf(refusal); code == bfia.CodeUnavailable || code == bfia.CodeInternal {
		return
	}
	if err := s.store.ForgetRuleDecision(ctx, jobID); err != nil {
		s.logger.Warn("failed to delete what the approval rules decided on a refused job", "job_id", jobID,
			"error", err)
	}
}

// addRules adds to an approval which rule has approved the job, or which one comes nearest to a job that
// waits for a person. A client with roles in single projects sees the rules of these projects only.
func (s *Server) addRules(ctx context.Context, approval *bfia.Approval, view *bfia.JobView) error {
	job, err := s.store.Job(ctx, view.JobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil // this party only schedules it, or creates it just now
	}
	if err != nil {
		return err
	}
	record, err := s.store.JobRecord(ctx, view.JobID)
	if err != nil {
		return unknownJob(err, view.JobID, s.Node)
	}
	scope, err := s.scopeOf(ctx, record.Document, view, origin{sender: job.SchedulerNode})
	if err != nil {
		return err
	}
	rule, err := s.approvingRule(ctx, view.JobID)
	if err != nil {
		return err
	}
	var near *bfia.NearRule
	if rule == nil && job.State == bfia.JobPending {
		if near, err = s.nearRule(ctx, view.JobID, scope); err != nil {
			return err
		}
	}
	approval.AddRules(&scope, rule, near)
	return nil
}

// approvingRule returns the rule that has approved a job, or nil.
func (s *Server) approvingRule(ctx context.Context, jobID string) (*bfia.ApprovalRule, error) {
	id, err := s.store.DecidingRule(ctx, jobID)
	if err != nil || id == "" {
		return nil, err
	}
	rule, err := s.store.ApprovalRule(ctx, id)
	if _, all := store.ProjectsOf(ctx); !all && bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil, nil // a rule for all projects, which names what others have
	}
	return &rule, err
}

// nearRule returns the rule that comes nearest to a job that waits for a person. One without mismatches was
// made after the job arrived.
func (s *Server) nearRule(ctx context.Context, jobID string, scope bfia.ApprovalScope) (*bfia.NearRule,
	error) {
	project, _, err := s.store.JobProject(ctx, jobID)
	if err != nil {
		return nil, err
	}
	rules, err := s.store.ApprovalRules(ctx)
	if err != nil {
		return nil, err
	}
	rules = slices.DeleteFunc(rules, func(r bfia.ApprovalRule) bool {
		return r.Project != "" && r.Project != project
	})
	submitters, err := s.store.Submitters(ctx, jobID)
	if err != nil {
		return nil, err
	}
	rule, near := bfia.ChooseRule(rules, scope, bfia.RuleConditions{Now: time.Now(), FourEyes: s.FourEyes,
		Submitters: submitters})
	if rule != nil {
		near = &bfia.NearRule{ID: rule.ID, Note: rule.Note, CreatedBy: rule.CreatedBy,
			Mismatches: []bfia.RuleMismatch{}}
	}
	return near, nil
}
