"""The words for losses whose target is made from the data itself: noise, masks, the future."""

from ch3_jax.cards.terms import Term, terms

_NOT_ACTION = r"(?<!stable )(?<!stable-)(?<!video )(?<!image )(?<!text-to-image )(?<!heat )"

TERMS: tuple[Term, ...] = (
    *terms(
        "flow_matching",
        (
            0.9,
            r"\b(?:mse_loss|MSELoss\(\)|l2_loss)\([^()\n]*\b(?:velocity|v_t|u_t|target_velocity|flow)\b",
        ),
        (0.95, r"\b(?:conditional |rectified[- ])?flow[-_\s]*match\w*|\brectified[-\s]flow\b"),
        (
            0.85,
            r"\b(?:velocity|vector)[-\s](?:field|prediction|loss|target|regression)\b|\bpredicts? "
            r"(?:the )?velocit(?:y|ies)(?= (?:field|from noise|of the flow))|"
            r"\b(?:MSE|squared error|L2|regress\w*)\b[^.]{0,50}(?<!joint )(?<!angular )(?<!linear )(?<!base )"
            r"\bvelocit(?:y|ies)\b(?= (?:between|from|\$|of the)|[.,;]|$)",
        ),
        (
            0.8,
            r"(?<!optical )(?<!probability )(?<!normalizing )(?<!normalising "
            r")(?<!work)\bflow[-\s](?:based )?(?:action |"
            r"policy |velocity )?(?:heads?|experts?|polic(?:y|ies)|models?|objective|loss|transformer|"
            r"sampling|ODE|"
            r"steps?|timesteps?)\b|\baction flows?\b|\bflow_(?:loss|head|steps|timesteps|matching)\w*",
        ),
        (0.7, r"\b(?:actions?|x_?1)\s*-\s*(?:noise|x_?0|eps\w*)\b|\bnoise\s*-\s*(?:actions?|x_?1)\b"),
        (
            0.65,
            r"\beuler (?:integration|steps?|solver)[^.|]{0,60}\b(?:denois\w*|action|flow|noise)|"
            r"\b(?:denois\w*|flow|noise)[^.|]{0,60}\beuler\b|\bintegrat\w+ (?:an |the )?(?:ODE|"
            r"ordinary differential equation)",
        ),
    ),
    *terms(
        "epsilon_mse",
        (
            0.9,
            r"\b(?:predict\w*|estimat\w*|regress\w*|recover\w*)\s+(?:\w+[\s-]){0,4}?(?:noise|ε|"
            r"epsilon)(?! sched)\b|\b(?:noise|epsilon)[-_\s](?:prediction|regression|matching|"
            r"estimat\w+)\b|\bprediction_?type\W+epsilon\b|\bpredict_epsilon\W+true|\\?(?:epsilon|"
            r"varepsilon)(?:_\w+)?\s*-\s*\\?(?:epsilon|varepsilon)_\{?\\?theta|ε\s*-\s*ε_?θ|"
            r"\bdenois\w+ MSE\b|"
            r"\b(?:noise|eps|epsilon)\w*\s*-\s*(?:\w+_)?(?:noise|eps|epsilon)\w*\b|"
            r"\b(?:mse_loss|MSELoss\(\)|l2_loss)\([^()\n]*\b(?:noise|eps|epsilon)\b|"
            r"\bMSE (?:loss )?(?:between|on|against) (?:the )?(?:\w+ ){0,4}noise\b",
        ),
    ),
    *terms(
        "x0_mse",
        (
            0.9,
            r"\b(?:predict\w*|estimat\w*|recover\w*|regress\w*|"
            r"reconstruct\w*)\s+(?:\w+\s){0,3}?(?:clean|noise-?free|uncorrupted|original|un-?noised|"
            r"ground-truth denoised)\s+(?:\w+\s){0,2}?(?:action|sample|chunk|trajector|data|signal|"
            r"sequence|x)\w*|\bx[-_]?0[-\s]prediction\b|\bprediction_?type\W+sample\b|\bpredicts? "
            r"x_?0\b|\bsample prediction\b|\b(?:directly|instead) (?:predicts?|outputs?) (?:the "
            r")?denoised\b",
        ),
    ),
    *terms("v_mse", (0.9, r"\bv[-\s_]prediction\b")),
    *terms(
        "diffusion_unspecified",
        (
            0.85,
            _NOT_ACTION
            + r"\bdiffusion[-\s](?:based )?(?:polic(?:y|ies)|action|heads?|loss|objective|transformer|"
            r"process|experts?|decoder|training|steps?|timesteps?|planner|planning)\b|\bdenois\w+ "
            r"diffusion\b|\bdiffusion_\w+",
        ),
        (0.75, r"\bdenois\w*"),
        (0.7, _NOT_ACTION + r"(?<!latent )(?<!discrete )\bdiffusion\b(?!-based (?:RL|reinforcement))"),
    ),
    *terms("diffusion_unspecified", (0.8, r"\bDDPM\w*|\bDDIM\w*"), exact=True),
    *terms(
        "score_matching",
        (
            0.9,
            r"\bscore[-\s](?:matching|based|diffusion|network|function|model)\w*|\bdenoising score\b|"
            r"\bcontinuous-time (?:score )?diffusion",
        ),
    ),
    *terms("score_matching", (0.8, r"\bEDM\b|\bKarras\b"), exact=True),
    *terms(
        "consistency",
        (
            0.9,
            r"\bself-consistency\b|\bconsistency[-\s](?:models?|polic(?:y|ies)|distill\w+|training|"
            r"trajectory|flow|function|"
            r"head)\b",
        ),
    ),
    *terms("contrastive", (0.9, r"\bcontrastive\b|\bInfoNCE\b|\bNT-Xent\b|\btriplet[-\s](?:margin )?loss\b")),
    *terms(
        "vq",
        (
            0.9,
            r"\bVQ(?:-?(?:VAE|GAN))?\b(?!-(?-i:[A-Z]))|\bvector[-\s]quanti[sz]\w+|\bresidual VQ\b|\bRVQ\b|"
            r"\bcommitment "
            r"loss\b|\bfinite scalar quanti[sz]ation\b|\bcodebook (?:loss|learning)|\blearn\w* (?:a "
            r")?(?:discrete )?codebook",
        ),
    ),
    *terms(
        "jepa",
        (0.9, r"\bjoint[-\s]embedding predict\w+"),
        (
            0.85,
            r"\bpredict\w*\s+(?:\w+[\s-]){0,4}?(?:future|next)\s+(?:[\w-]+\s){0,3}?(?:embeddings?|"
            r"latents?|features?|representations?)\b|\b(?:future|next)[-\s](?:latent|"
            r"embedding)[-\s]prediction",
        ),
    ),
    *terms("jepa", (0.9, r"\bJEPA\b(?= (?:prediction |training )?(?:loss|objective))"), exact=True),
    *terms(
        "masked_cross_entropy",
        (
            0.9,
            r"\bdiscrete diffusion\b|\bmasked diffusion\b|\bmask(?:ed)?[-\s](?:(?:action|trajectory|language|"
            r"discrete)[-\s])?tokens?\b[^.]{0,60}\b(?:predict\w*|cross|recover\w*|loss|reconstruct\w*)|"
            r"\b(?:predict\w*|recover\w*|reconstruct\w*|loss on|cross[-\s]entropy (?:on|over|"
            r"for))[^.]{0,50}\bmasked (?:\w+ )?(?:tokens?|positions?|actions?)|\bmasked[-\s](?:token|"
            r"language|action)[-\s](?:model\w*|predict\w+)|\bMaskGIT\b|\bmask[-\s](?:and|"
            r"&)?[-\s]?predict|\bBERT[-\s](?:style|like) (?:mask\w*|training|objective)|"
            r"\babsorbing[-\s]state",
        ),
    ),
    *terms(
        "reconstruction",
        (
            0.7,
            r"\breconstruct\w* (?:loss|objective|error)\b|\bmasked auto-?encod\w+|\bimage reconstruction",
        ),
    ),
)
