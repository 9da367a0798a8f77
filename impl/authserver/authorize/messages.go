package authorize

// What these pages say beside what stands in their templates; all of it is in the table of
// package words.
const (
	saysIncomplete  = "This address is not complete. Go back to the app and begin anew."
	saysUnknown     = "This request is not known here, or not any more. Go back to the app and begin anew."
	saysNoClient    = "The app could not be recognized. Nothing was done. Go back to it and begin anew."
	saysNoRedirect  = "The app wants the answer at an address that is not its own. Nothing was done."
	saysNoForm      = "The app wants the answer in a way that does not work for its address. Nothing was done."
	saysElsewhere   = "This page cannot be shown inside of another."
	saysTooLong     = "That took too long. Sign in again."
	saysChangedPass = "The password was changed just now. Sign in again."
	saysGrave       = "What this app asks for can cost you your account. Sign in again first."
	saysTakenDown   = "This account has been taken down."
	saysGone        = "This account does not exist any more."
	saysGrew        = "What the app asks for has changed since you read it. Look again."
	saysNoAccount   = "This account is not remembered here. Sign in."
	saysNewPassword = "Your password is changed, everything that was signed in is signed out, and passkeys are removed. Sign in with the new password."
	saysForgotten   = "The account is not remembered here any more."
	saysMailed      = "A code was mailed to you."
	saysNoHandle    = "That cannot be a handle: it takes letters, digits and hyphens."
	saysNoPassword  = "Choose a password."
	saysWrongCode   = "This code is wrong, or not good any more."
	saysCaptcha     = "Show that you are no machine, and try again."
)
