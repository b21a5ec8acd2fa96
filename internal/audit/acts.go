package audit

// The acts of the audit trail.
const (
	Submit            = "job.submit"
	Stop              = "job.stop"
	Approve           = "job.approve"
	Reject            = "job.reject"
	Priority          = "job.priority"
	DeleteJob         = "job.delete"
	ReadLog           = "job.log"
	ReadOutputs       = "job.outputs"
	ReadDocument      = "job.document"
	ExportEvidence    = "job.evidence"
	Upload            = "dataset.upload"
	Download          = "dataset.download"
	DeleteDataset     = "dataset.delete"
	RegisterProvider  = "provider.register"
	RegisterComponent = "provider.register-component"
	DeleteProvider    = "provider.delete"
	Drain             = "runner.drain"
	ReadTrail         = "audit.read"

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

	// Refusals is the act of a summary: further refusals of one caller within a minute.
	Refusals = "refusals"
)
