package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

// acts names the acts of the endpoints that change something, or that hand out what containers have made. A
// test checks that each endpoint is in this table or in the list of those that do neither.
var acts = map[string]string{
	"POST " + bfia.PathProviderRegister:   audit.RegisterProvider,
	"POST " + bfia.PathProviderAllow:      audit.AllowProvider,
	"POST " + bfia.PathProviderDelete:     audit.DeleteProvider,
	"POST " + bfia.PathComponentRegister:  audit.RegisterComponent,
	"POST " + bfia.PathComponentUpload:    audit.Upload,
	"POST " + bfia.PathDataUpload:         audit.Upload,
	"POST " + bfia.PathComponentFile:      audit.Upload,
	"POST " + bfia.PathDataFile:           audit.Upload,
	"POST " + bfia.PathDataDelete:         audit.DeleteDataset,
	"GET " + bfia.PathDataDownload:        audit.Download,
	"POST " + bfia.PathModelKeep:          audit.KeepModel,
	"POST " + bfia.PathModelDelete:        audit.DeleteModel,
	"GET " + bfia.PathModelExport:         audit.ExportModel,
	"POST " + bfia.PathModelImport:        audit.ImportModel,
	"POST " + bfia.PathJobDelete:          audit.DeleteJob,
	"POST " + bfia.PathPlatformCreateAll:  audit.Submit,
	"POST " + bfia.PathV2CreateAll:        audit.Submit,
	"POST " + bfia.PathPlatformStopAll:    audit.Stop,
	"POST " + bfia.PathPlatformStopTask:   audit.Stop,
	"POST " + bfia.PathPlatformAudit:      audit.Approve, // or Reject
	"POST " + bfia.PathPlatformPriority:   audit.Priority,
	"GET " + bfia.PathPlatformLogLines:    audit.ReadLog,
	"GET " + bfia.PathPlatformLog:         audit.ReadLog,
	"GET " + bfia.PathJobOutputs:          audit.ReadOutputs,
	"GET " + bfia.PathJobEvidence:         audit.ExportEvidence,
	"GET " + bfia.PathAuditQuery:          audit.ReadTrail,
	"POST " + bfia.PathAuditArchive:       audit.ArchiveTrail,
	"POST " + bfia.PathRunnerDrain:        audit.Drain,
	"POST " + bfia.PathNotificationTest:   audit.TestReceiver,
	"POST " + bfia.PathNotificationResend: audit.ResendNotification,
	"POST " + bfia.PathGrantAdd:           audit.AddGrant,
	"POST " + bfia.PathGrantRevoke:        audit.RevokeGrant,
	"POST " + bfia.PathGrantRequest:       audit.RequestGrant,
	"POST " + bfia.PathGrantApprove:       audit.ApproveGrant,
	"POST " + bfia.PathGrantDeny:          audit.DenyGrant,
	"POST " + bfia.PathGrantTerminate:     audit.TerminateGrant,
	"POST " + bfia.PathDatasetApply:       audit.PartnerGrantApply,
	"POST " + bfia.PathDatasetConfirm:     audit.PartnerGrantConfirm,
	"POST " + bfia.PathDatasetTerminate:   audit.PartnerGrantTerminate,
	"POST " + bfia.PathTokenCreate:        audit.CreateToken,
	"POST " + bfia.PathTokenRevoke:        audit.RevokeToken,

	"POST " + bfia.PathApprovalRuleAdd:    audit.AddRule,
	"POST " + bfia.PathApprovalRuleRemove: audit.RemoveRule,

	"POST " + bfia.PathPeriodicAdd:    audit.AddPeriodic,
	"POST " + bfia.PathPeriodicChange: audit.ChangePeriodic,
	"POST " + bfia.PathPeriodicPause:  audit.PausePeriodic,
	"POST " + bfia.PathPeriodicResume: audit.ResumePeriodic,
	"POST " + bfia.PathPeriodicRun:    audit.RunPeriodic,
	"POST " + bfia.PathPeriodicDelete: audit.DeletePeriodic,

	"POST " + bfia.PathProjectCreate: audit.CreateProject,
	"POST " + bfia.PathProjectSet:    audit.SetProject,
	"POST " + bfia.PathProjectRemove: audit.RemoveProject,

	"POST " + bfia.PathPartnerInvite:     audit.InvitePartner,
	"POST " + bfia.PathPartnerApply:      audit.ApplyToPartner,
	"POST " + bfia.PathPartnerAccept:     audit.AcceptPartner,
	"POST " + bfia.PathPartnerUpdate:     audit.UpdatePartner,
	"POST " + bfia.PathPartnerRemove:     audit.RemovePartner,
	"POST " + bfia.PathContractApply:     audit.PartnerApply,
	"POST " + bfia.PathContractConfirm:   audit.PartnerConfirm,
	"POST " + bfia.PathContractTerminate: audit.PartnerTerminate,
	"POST " + bfia.PathNodeUpdate:        audit.PartnerUpdate,

	"POST " + bfia.PathCreateAll:    audit.PartnerCreateAll,
	"POST " + bfia.PathStopAll:      audit.PartnerStopAll,
	"POST " + bfia.PathAuditConfirm: audit.PartnerApproval,
	"POST " + bfia.PathPriority:     audit.PartnerPriority,
	"POST " + bfia.PathCreate:       audit.PartnerCreate,
	"POST " + bfia.PathStart:        audit.PartnerStart,
	"POST " + bfia.PathTaskStart:    audit.PartnerTaskStart,
	"POST " + bfia.PathStop:         audit.PartnerStop,
	"POST " + bfia.PathTaskStop:     audit.PartnerTaskStop,

	"POST " + fateclient.PathJobSubmit: audit.Submit,
	"POST " + fateclient.PathJobStop:   audit.Stop,

	"POST " + fateclient.PathJobRerun:     audit.Submit,
	"POST " + fateclient.PathJobClean:     audit.DeleteJob,
	"POST " + fateclient.PathQueueClean:   audit.Stop,
	"POST " + fateclient.PathJobNotes:     audit.NoteJob,
	"POST " + fateclient.PathJobLog:       audit.ReadLog,
	"GET " + fateclient.PathLogQuery:      audit.ReadLog,
	"GET " + fateclient.PathLogCount:      audit.ReadLog,
	"GET " + fateclient.PathMetricQuery:   audit.ReadOutputs,
	"GET " + fateclient.PathMetricKeys:    audit.ReadOutputs,
	"GET " + fateclient.PathModelQuery:    audit.ReadOutputs,
	"GET " + fateclient.PathModelDownload: audit.ReadOutputs,
	"GET " + fateclient.PathDataTable:     audit.ReadOutputs,
	"GET " + fateclient.PathDataDisplay:   audit.ReadOutputs,
	"GET " + fateclient.PathDataDownload:  audit.ReadOutputs,
	"GET " + fateclient.PathTableQuery:    audit.Download, // if it shows rows
	"POST " + fateclient.PathTableDelete:  audit.DeleteDataset,

	"POST " + fateflow.PathSchedulerJobStop: audit.PartnerStopAll,
	"POST " + fateflow.PathJobCreate:        audit.PartnerCreate,
	"POST " + fateflow.PathJobStart:         audit.PartnerStart,
	"POST " + fateflow.PathJobStatus:        audit.PartnerStatus,
	"POST " + fateflow.PathJobStop:          audit.PartnerStop,
	"POST " + fateflow.PathTaskStart:        audit.PartnerTaskStart,
	"POST " + fateflow.PathTaskStop:         audit.PartnerTaskStop,
	"POST " + fateflow.PathTaskRerun:        audit.PartnerRerun,
}

// serveAct runs the handler of a route for a caller, with the entry of the audit trail pending if the route
// is an act. The act writes the entry: in its transaction, or before it leaves the database (see
// [Server.recordAct]). An act that turns out to change nothing writes none. Refusals and failures are written
// here.
func (s *Server) serveAct(c *fiber.Ctx, r route, p identity.Principal) error {
	ctx := r.access.scope(identity.With(s.ctx, p), p)
	var pending *audit.Pending
	if act := acts[r.method+" "+r.path]; act != "" {
		pending = audit.NewPending(p, act, func() string { return s.requestDigest(c) })
		ctx = audit.With(ctx, pending)
	}
	end := func(error) {}
	if s.Trace != nil && !r.access.everybody {
		own := p.Kind == identity.KindClient || p.Proof == identity.ByProcess
		ctx, end = s.Trace(ctx, r.method+" "+r.path, func(name string) string { return c.Get(name) }, own)
	}
	c.SetUserContext(ctx)

	err := r.handler(c)
	end(err)
	if err == nil {
		return nil
	}
	switch {
	case pending != nil:
		s.recordFailure(p, pending, err)
	case outcomeOf(err) == audit.Refused:
		s.refused(c, r, p, err)
	}
	return err
}

// recordFailure writes the refusal or failure of an act.
func (s *Server) recordFailure(p identity.Principal, pending *audit.Pending, err error) {
	entry := pending.Entry(outcomeOf(err), reasonOf(err))
	if pending.Recorded() {
		s.appendAudit(entry)
		return
	}
	s.refusals.Write(p, entry)
}

// eachAct returns a context with an act of its own, for a request that is several acts.
func (s *Server) eachAct(c *fiber.Ctx) context.Context {
	ctx := c.UserContext()
	whole := audit.From(ctx)
	if whole == nil {
		return ctx
	}
	return audit.With(ctx, audit.NewPending(identity.From(ctx), whole.Act(),
		func() string { return s.requestDigest(c) }))
}

// refused writes the refusal of a caller who may not use an endpoint.
func (s *Server) refused(c *fiber.Ctx, r route, p identity.Principal, err error) {
	if p.Address == "" && p.Proof != identity.ByProcess {
		p.Address = c.Context().RemoteIP().String()
	}
	act := acts[r.method+" "+r.path]
	if act == "" {
		act = r.method + " " + r.path
	}
	e := audit.New(p, act, audit.Object{}, audit.Refused, time.Now())
	e.Reason, e.Digest = reasonOf(err), s.requestDigest(c)
	s.refusals.Write(p, e)
}

// appendAudit writes the entry of an act that was allowed and has failed. If it can't, it logs that.
func (s *Server) appendAudit(e audit.Entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), auditTimeout)
	defer cancel()
	if err := s.store.AppendAudit(ctx, e); err != nil {
		s.logger.Error("failed to write the failure of an act to the audit trail", "error", err,
			"caller", e.Principal(), "act", e.Act)
	}
}

// auditTimeout bounds the writing of a failure.
const auditTimeout = 10 * time.Second

// recordAct writes the entry of the act that is pending in a context, before an act outside of the database,
// such as a signal to a workflow or a request to a partner. If it fails, the act must not happen.
func (s *Server) recordAct(ctx context.Context) error {
	return s.store.RecordAct(ctx)
}

// on names the object of the act that is pending in a context.
func on(ctx context.Context, kind audit.ObjectKind, id string) { audit.From(ctx).On(kind, id) }

// onApproval names the job of an approval or rejection, and which of them it is.
func onApproval(ctx context.Context, a *bfia.Audit) {
	on(ctx, audit.Job, a.JobID)
	if p := audit.From(ctx); p != nil && p.Act() == audit.Approve && a.Status == bfia.JobRejected {
		p.SetAct(audit.Reject)
	}
}

// readInterval is the time within which further reads of a log or of a list of outputs by one caller are not
// recorded again, since clients follow logs.
const readInterval = time.Minute

// recordRead writes the entry of a pending act that reads something of a job, once in each readInterval.
func (s *Server) recordRead(ctx context.Context, jobID string) error {
	return s.recordReadOf(ctx, audit.Job, jobID)
}

// recordReadOf does the same for any object.
func (s *Server) recordReadOf(ctx context.Context, kind audit.ObjectKind, id string) error {
	pending := audit.From(ctx)
	if pending == nil {
		return nil
	}
	pending.On(kind, id)
	now := time.Now()
	key := pending.Act() + "\x00" + identity.From(ctx).String() + "\x00" + id
	if s.reads.recent(key, now) {
		pending.SetRecorded()
		return nil
	}
	if err := s.recordAct(ctx); err != nil {
		return err
	}
	s.reads.add(key, now)
	return nil
}

// outcomeOf returns the outcome of an act that has failed with an error.
func outcomeOf(err error) audit.Outcome {
	switch bfia.CodeOf(err).HTTPStatus() {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return audit.Refused
	}
	return audit.Failed
}

// reasonOf returns the reason of a refusal or failure. Messages about the content of a request may quote
// parameters or data, which the audit trail does not hold.
func reasonOf(err error) string {
	code := bfia.CodeOf(err)
	switch code {
	case bfia.CodeBadRequest, bfia.CodeRefused, bfia.CodeInternal, bfia.CodeTooLarge:
		return http.StatusText(code.HTTPStatus())
	}
	return bfia.MessageOf(err)
}

// requestDigest returns the SHA-256 of a request's body in hex, or of its method, path and query if it has
// none, or none that was read.
func (s *Server) requestDigest(c *fiber.Ctx) string {
	if b := s.bodyStream(c); b.digest != nil && b.ended {
		return hex.EncodeToString(b.digest.Sum(nil))
	}
	return digestOf([]byte(c.Method() + " " + c.OriginalURL()))
}

// digestOf returns a SHA-256 in hex.
func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
