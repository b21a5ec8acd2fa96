package fateclient

// The endpoints of jobs and tasks.
const (
	PathJobSubmit     = "/v2/job/submit"
	PathJobQuery      = "/v2/job/query"
	PathJobList       = "/v2/job/list/query"
	PathJobStop       = "/v2/job/stop"
	PathJobRerun      = "/v2/job/rerun"
	PathJobClean      = "/v2/job/clean"
	PathQueueClean    = "/v2/job/queue/clean"
	PathJobNotes      = "/v2/job/notes/add"
	PathJobDependency = "/v2/job/dag/dependency"
	PathJobData       = "/v2/job/data/view" // FATE-Board
	PathJobLog        = "/v2/job/log/download"
	PathTaskQuery     = "/v2/job/task/query"
	PathTaskList      = "/v2/job/task/list/query"
)

// The endpoints of outputs, logs, datasets and the party.
const (
	PathMetricQuery   = "/v2/output/metric/query"
	PathMetricKeys    = "/v2/output/metric/key/query"
	PathModelQuery    = "/v2/output/model/query"
	PathModelDownload = "/v2/output/model/download"
	PathDataTable     = "/v2/output/data/table"
	PathDataDisplay   = "/v2/output/data/display"
	PathDataDownload  = "/v2/output/data/download"
	PathLogQuery      = "/v2/log/query"
	PathLogCount      = "/v2/log/count"
	PathTableQuery    = "/v2/table/query"
	PathTableDelete   = "/v2/table/delete"
	PathSite          = "/v2/site/info/query"
	PathServer        = "/v2/server/fateflow"
)
