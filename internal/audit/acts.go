package audit

// The acts of the audit trail.
const (
	Submit            = "job.submit"
	Stop              = "job.stop"
	Approve           = "job.approve"
	Reject            = "job.reject"
	Priority          = "job.priority"
	DeleteJob         = "job.delete"
	NoteJob           = "job.note"
	ReadLog           = "job.log"
	ReadOutputs       = "job.outputs"
	ExportEvidence    = "job.evidence"
	Upload            = "dataset.upload"
	Download          = "dataset.download"
	DeleteDataset     = "dataset.delete"
	KeepModel         = "model.keep"
	DeleteModel       = "model.delete"
	ExportModel       = "model.export"
	ImportModel       = "model.import"
	RegisterProvider  = "provider.register"
	RegisterComponent = "provider.register-component"
	AllowProvider     = "provider.allow" // exceptions from the restricted profile of containers
	DeleteProvider    = "provider.delete"
	Drain             = "runner.drain"
	ReadTrail         = "audit.read"
	ArchiveTrail      = "audit.archive" // of the entries up to a head, which are removed
	AddGrant          = "grant.add"
	RevokeGrant       = "grant.revoke"
	RequestGrant      = "grant.request" // of a partner
	ApproveGrant      = "grant.approve" // and the next three: a request, by its audit id
	DenyGrant         = "grant.deny"
	TerminateGrant    = "grant.terminate"
	AddRule           = "rule.add"
	RemoveRule        = "rule.remove"
	CreateToken       = "token.create"
	RevokeToken       = "token.revoke"
	AddPeriodic       = "periodic.add"
	ChangePeriodic    = "periodic.change"
	PausePeriodic     = "periodic.pause"
	ResumePeriodic    = "periodic.resume"
	RunPeriodic       = "periodic.run"
	DeletePeriodic    = "periodic.delete"
	CreateProject     = "project.create"
	SetProject        = "project.set"
	RemoveProject     = "project.remove"

	FinishRestore = "restore.finish" // of the party's services, from a backup

	TestReceiver       = "notification.test"
	ResendNotification = "notification.resend"

	// Acts of partners.
	PartnerCreateAll = "partner.create-all"
	PartnerStopAll   = "partner.stop-all"
	PartnerCreate    = "partner.create"
	PartnerStart     = "partner.start"
	PartnerStop      = "partner.stop"
	PartnerTaskStart = "partner.task-start"
	PartnerTaskStop  = "partner.task-stop"
	PartnerPriority  = "partner.priority"
	PartnerApproval  = "partner.approval"
	PartnerStatus    = "partner.job-status" // of FATE-Flow: it ends or reopens a job
	PartnerRerun     = "partner.task-rerun"

	// Acts on contracts with other parties: of administrators, and of the other parties.
	InvitePartner    = "contract.invite"
	ApplyToPartner   = "contract.apply"
	AcceptPartner    = "contract.accept"
	UpdatePartner    = "contract.update" // this party's addresses or certificate, at a partner
	RemovePartner    = "contract.remove"
	PartnerApply     = "partner.contract-apply"
	PartnerConfirm   = "partner.contract-confirm"
	PartnerTerminate = "partner.contract-terminate"
	PartnerUpdate    = "partner.node-update"

	// Acts of partners on requests for grants.
	PartnerGrantApply     = "partner.grant-apply"
	PartnerGrantConfirm   = "partner.grant-confirm"
	PartnerGrantTerminate = "partner.grant-terminate"

	// Refusals is the act of a summary: further refusals of one caller within a minute.
	Refusals = "refusals"
)
