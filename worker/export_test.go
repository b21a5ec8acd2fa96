package worker

// For tests that need the engine: what starts it imports this package.
var (
	Identity  = identity
	Twins     = duplicateRunners
	FindTwins = findDuplicateRunners
)
