package fateclient

// The endpoints of jobs and tasks.
const (
	PathJobSubmit = "/v2/job/submit"
	PathJobQuery  = "/v2/job/query"
	PathJobList   = "/v2/job/list/query"
	PathJobStop   = "/v2/job/stop"
	PathTaskQuery = "/v2/job/task/query"
	PathTaskList  = "/v2/job/task/list/query"
)
