package fateclient

import "hutong/bfia"

// The codes of FATE-Flow's answers to its clients.
const (
	CodeParameters  bfia.Code = 1000 // the request, or the job in it, is wrong
	CodeNoJob       bfia.Code = 1001
	CodeNotCreated  bfia.Code = 1002
	CodeNotStopped  bfia.Code = 1004
	CodeNoTask      bfia.Code = 2000
	CodeNoModel     bfia.Code = 2005
	CodeBadArgument bfia.Code = 5001 // a parameter is missing or malformed
	CodeRestricted  bfia.Code = 6001
	CodeNoTable     bfia.Code = 7001
)

// Codes maps the codes of a party's errors to those that FATE's clients expect of an endpoint. Answers with a
// code that it does not map are those of every endpoint, such as the refusal of a caller.
type Codes map[bfia.Code]bfia.Code

// The codes of the endpoints, by what they are about.
var (
	// OfSubmission: what this party refuses is the client's fault; what a partner refuses, or can't answer,
	// is not.
	OfSubmission = Codes{
		bfia.CodeBadRequest: CodeParameters, bfia.CodeNotFound: CodeParameters,
		bfia.CodeConflict: CodeParameters, bfia.CodeTooLarge: CodeParameters,
		bfia.CodeRefused: CodeNotCreated, bfia.CodePartnerDown: CodeNotCreated,
		bfia.CodeUnavailable: CodeNotCreated,
	}
	OfJob     = about(CodeNoJob)
	OfTask    = about(CodeNoTask)
	OfModel   = about(CodeNoModel)
	OfTable   = about(CodeNoTable) // of datasets
	OfRefusal = about(CodeRestricted)
	// OfRerun: the job is unknown, or its submission is refused.
	OfRerun = Codes{
		bfia.CodeNotFound: CodeNoJob, bfia.CodeBadRequest: CodeParameters, bfia.CodeConflict: CodeParameters,
		bfia.CodeTooLarge: CodeParameters, bfia.CodeRefused: CodeNotCreated,
		bfia.CodePartnerDown: CodeNotCreated, bfia.CodeUnavailable: CodeNotCreated,
	}
	// OfStop are the codes of stopping a job.
	OfStop = Codes{
		bfia.CodeBadRequest: CodeBadArgument, bfia.CodeTooLarge: CodeBadArgument,
		bfia.CodeNotFound: CodeNoJob,
		bfia.CodeConflict: CodeNotStopped, bfia.CodeRefused: CodeNotStopped,
		bfia.CodePartnerDown: CodeNotStopped, bfia.CodeUnavailable: CodeNotStopped,
	}
)

// about returns the codes of an endpoint about a thing. missing is the code if there is none.
func about(missing bfia.Code) Codes {
	return Codes{
		bfia.CodeBadRequest: CodeBadArgument, bfia.CodeTooLarge: CodeBadArgument, bfia.CodeNotFound: missing,
		bfia.CodeConflict: CodeParameters, bfia.CodeRefused: CodeRestricted,
	}
}
