package operator

import (
	"time"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/account/auth"
)

// Policy says who may call each method of alt.portico.operator: the holder of the
// admin password. None has a limit of its own.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

func (p Policy) ApproveQuarantined() xrpc.Policy[api.ApproveQuarantinedInput] {
	return admin[api.ApproveQuarantinedInput](p)
}
func (p Policy) ClearBudgets() xrpc.Policy[api.ClearBudgetsInput] {
	return admin[api.ClearBudgetsInput](p)
}
func (p Policy) CreateAccount() xrpc.Policy[api.CreateAccountInput] {
	return admin[api.CreateAccountInput](p)
}
func (p Policy) DeleteMail() xrpc.Policy[api.DeleteMailInput] {
	return admin[api.DeleteMailInput](p)
}
func (p Policy) DeleteQuarantined() xrpc.Policy[api.DeleteQuarantinedInput] {
	return admin[api.DeleteQuarantinedInput](p)
}
func (p Policy) DisableAuthFactor() xrpc.Policy[api.DisableAuthFactorInput] {
	return admin[api.DisableAuthFactorInput](p)
}
func (p Policy) ExportAccount() xrpc.Policy[api.ExportAccountInput] {
	return admin[api.ExportAccountInput](p)
}
func (p Policy) GetAccount() xrpc.Policy[api.GetAccountParams] {
	return admin[api.GetAccountParams](p)
}
func (p Policy) GetBlob() xrpc.Policy[api.GetBlobParams] {
	return admin[api.GetBlobParams](p)
}
func (p Policy) GetBudgets() xrpc.Policy[api.GetBudgetsParams] {
	return admin[api.GetBudgetsParams](p)
}
func (p Policy) GetFirehose() xrpc.Policy[xrpc.None] {
	return admin[xrpc.None](p)
}
func (p Policy) GetHealth() xrpc.Policy[xrpc.None] {
	return admin[xrpc.None](p)
}
func (p Policy) GetLog() xrpc.Policy[api.GetLogParams] {
	return admin[api.GetLogParams](p)
}
func (p Policy) GetRepo() xrpc.Policy[api.GetRepoParams] {
	return admin[api.GetRepoParams](p)
}
func (p Policy) GetRequest() xrpc.Policy[xrpc.None] {
	return admin[xrpc.None](p)
}
func (p Policy) GetMove() xrpc.Policy[api.GetMoveParams] {
	return admin[api.GetMoveParams](p)
}
func (p Policy) GetSignUps() xrpc.Policy[api.GetSignUpsParams] {
	return admin[api.GetSignUpsParams](p)
}
func (p Policy) ImportRepo() xrpc.Policy[xrpc.Args[api.ImportRepoParams, xrpc.Body]] {
	policy := admin[xrpc.Args[api.ImportRepoParams, xrpc.Body]](p)
	policy.MaxBody = anySize
	return policy
}
func (p Policy) InspectAccount() xrpc.Policy[api.InspectAccountParams] {
	return admin[api.InspectAccountParams](p)
}
func (p Policy) ListAccounts() xrpc.Policy[api.ListAccountsParams] {
	return admin[api.ListAccountsParams](p)
}
func (p Policy) ListBlobs() xrpc.Policy[api.ListBlobsParams] {
	return admin[api.ListBlobsParams](p)
}
func (p Policy) ListDomains() xrpc.Policy[xrpc.None] {
	return admin[xrpc.None](p)
}
func (p Policy) ListMails() xrpc.Policy[api.ListMailsParams] {
	return admin[api.ListMailsParams](p)
}
func (p Policy) ListQuarantined() xrpc.Policy[api.ListQuarantinedParams] {
	return admin[api.ListQuarantinedParams](p)
}
func (p Policy) PutDomain() xrpc.Policy[api.PutDomainInput] {
	return admin[api.PutDomainInput](p)
}
func (p Policy) ReceiveAccount() xrpc.Policy[api.ReceiveAccountInput] {
	policy := admin[api.ReceiveAccountInput](p)
	policy.MaxBody = 16 << 20 // with what of it is taken down
	return policy
}
func (p Policy) RemoveDomain() xrpc.Policy[api.RemoveDomainInput] {
	return admin[api.RemoveDomainInput](p)
}
func (p Policy) RepairAccount() xrpc.Policy[api.RepairAccountInput] {
	return admin[api.RepairAccountInput](p)
}
func (p Policy) ResetPassword() xrpc.Policy[api.ResetPasswordInput] {
	return admin[api.ResetPasswordInput](p)
}
func (p Policy) RetryMail() xrpc.Policy[api.RetryMailInput] {
	return admin[api.RetryMailInput](p)
}
func (p Policy) StartMove() xrpc.Policy[api.StartMoveInput] {
	return admin[api.StartMoveInput](p)
}
func (p Policy) UpdateArrival() xrpc.Policy[api.UpdateArrivalInput] {
	return admin[api.UpdateArrivalInput](p)
}
func (p Policy) UpdateDeparture() xrpc.Policy[api.UpdateDepartureInput] {
	return admin[api.UpdateDepartureInput](p)
}
func (p Policy) UpdateMove() xrpc.Policy[api.UpdateMoveInput] {
	return admin[api.UpdateMoveInput](p)
}
func (p Policy) UploadBlob() xrpc.Policy[xrpc.Args[api.UploadBlobParams, xrpc.Body]] {
	policy := admin[xrpc.Args[api.UploadBlobParams, xrpc.Body]](p)
	policy.MaxBody = anySize
	return policy
}
func (p Policy) VerifyRepo() xrpc.Policy[api.VerifyRepoParams] {
	return admin[api.VerifyRepoParams](p)
}

// anySize is more than any archive or blob has: what is taken is the matter of who stores it.
const anySize = 1 << 50

// uploadAgain is how long an upload that finds too many others is best put off.
const uploadAgain = 10 * time.Second

func admin[In any](p Policy) xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: p.Gate.Admin(), Limits: xrpc.GlobalLimitOnly[In]()}
}
