package worker

// Exported for the tests in package worker_test, which need a Temporal server: the package that starts one
// imports this one.
var (
	Identity             = identity
	DuplicateRunners     = duplicateRunners
	FindDuplicateRunners = findDuplicateRunners
)
