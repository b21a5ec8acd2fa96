package fateflow

// The endpoints of a participant, which a FATE-Flow scheduler calls.
const (
	PathJobCreate   = "/v2/partner/job/create"
	PathJobStart    = "/v2/partner/job/start"
	PathJobStatus   = "/v2/partner/job/status/update"
	PathJobUpdate   = "/v2/partner/job/update"
	PathJobApply    = "/v2/partner/job/resource/apply"
	PathJobReturn   = "/v2/partner/job/resource/return"
	PathJobStop     = "/v2/partner/job/stop"
	PathTaskApply   = "/v2/partner/task/resource/apply"
	PathTaskReturn  = "/v2/partner/task/resource/return"
	PathTaskStart   = "/v2/partner/task/start"
	PathTaskStatus  = "/v2/partner/task/status/update"
	PathTaskCollect = "/v2/partner/task/collect"
	PathTaskStop    = "/v2/partner/task/stop"
	PathTaskRerun   = "/v2/partner/task/rerun"
)

// The endpoints of a scheduler, which its participants call.
const (
	PathSchedulerJobCreate  = "/v2/scheduler/job/create"
	PathSchedulerJobStop    = "/v2/scheduler/job/stop"
	PathSchedulerJobRerun   = "/v2/scheduler/job/rerun"
	PathSchedulerTaskReport = "/v2/scheduler/task/report"
)
